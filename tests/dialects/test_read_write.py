"""read(write(x)) = x, what a written file holds, and what becomes of every key of a strange one."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import close, everything, network, random_lora

from loraloom import dialects
from loraloom.adapters import LoRA
from loraloom.bases import BASES, NANO, NANOXL, SD1, SD2, SDXL, TINY, Target
from loraloom.dialects import DIALECTS, read, write
from loraloom.errors import BadTensor, DialectCannotHold, LoraError, NothingApplied, UnknownFormat, WriteFailed
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
P = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
TARGET = Target("unet", P.removeprefix("unet."))


def kohya(prefix: str = K, out: int = 16, columns: int = 24, rank: int = 2) -> dict[str, torch.Tensor]:
    return {
        f"{prefix}.lora_down.weight": torch.ones(rank, columns),
        f"{prefix}.lora_up.weight": torch.ones(out, rank),
        f"{prefix}.alpha": torch.tensor(1.0),
    }


def saved(folder, tensors, **metadata):
    save_file(tensors, folder / "x.safetensors", metadata or None)
    return folder / "x.safetensors"


made = cache(network)  # the same for every dialect


@pytest.mark.parametrize("dialect", [dialect.name for dialect in DIALECTS if dialect.writes])
@pytest.mark.parametrize(
    ("base", "share"),
    [(NANO, 1.0), (TINY, 0.3), (SD1, 0.01), (SD2, 0.01), (SDXL, 0.004), (NANOXL, 0.5)],
    ids=lambda value: getattr(value, "family", ""),
)
@pytest.mark.parametrize("options", [{}, {"bias": True, "alpha": 7}, {"alpha": None}], ids=str)
def test_what_is_written_is_read_back(tmp_path, dialect, base, share, options):
    first = made(base, everything, share=share, rank=3, **options)
    path = write(first, tmp_path / "x.safetensors", dialect, dtype=torch.float32)
    again = read(path)
    assert (again.base, again.dialect, again.unknown, again.warnings) == (base.family, dialect, (), ())
    assert again.adapters.keys() == first.adapters.keys()
    assert again.name == "x"
    for target, adapter in first.adapters.items():
        found, zero = again.adapters[target], torch.zeros(base.by_target[target].shape)
        assert type(found) is type(adapter)
        assert found.alpha is not None
        if dialect != "peft" or ("alpha" in options and options["alpha"] is None):  # which has another scale in its factors
            assert torch.equal(found.down, adapter.down)
            assert torch.equal(found.up, adapter.up)
        assert close(found.delta(zero), adapter.delta(zero), 1e-6)
        if "bias" in options:
            assert close(found.bias_delta(zero[0]), adapter.bias_delta(zero[0]), 1e-6)


@pytest.mark.parametrize("dialect", [dialect.name for dialect in DIALECTS if dialect.writes])
def test_writing_again_gives_the_same_bytes(tmp_path, dialect):
    first = write(network(NANO), tmp_path / "1.safetensors", dialect)
    second = write(read(first), tmp_path / "2.safetensors", dialect)
    assert contents(first) == contents(second)


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of every file of a folder."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {"" if each == path else str(each.relative_to(path)): each.read_bytes() for each in files}


@pytest.mark.parametrize("extra", [{"scale": 0.3}, {"scalar": 2.5}, {"alpha": 0.0}, {"alpha": -1.5}], ids=str)
@pytest.mark.parametrize("dialect", [dialect.name for dialect in DIALECTS if dialect.writes])
def test_every_scale_survives_every_dialect(tmp_path, dialect, extra):
    adapter = random_lora(16, 24, bias=True).with_tensors({name: torch.tensor(value) for name, value in extra.items()})
    path = write(LoraFile({TARGET: adapter}, {}, "nano"), tmp_path / "x.safetensors", dialect, dtype=torch.float32)
    found, zero = read(path).adapters[TARGET], torch.zeros(16, 24)
    assert close(found.delta(zero), adapter.delta(zero), 1e-6)
    assert close(found.bias_delta(zero[:, 0]), adapter.bias_delta(zero[:, 0]), 1e-6)


def test_tucker_is_written_by_kohya_and_refused_by_peft_with_the_way_out(tmp_path):
    made = network(NANO, lambda layer: layer.shape[2:] == (3, 3), tucker=True)
    found = read(write(made, tmp_path / "x.safetensors", dtype=torch.float32))
    assert all(torch.equal(adapter.mid, made.adapters[target].mid) for target, adapter in found.adapters.items())
    with pytest.raises(DialectCannotHold, match=r"Tucker core.*write it in kohya naming"):
        write(made, tmp_path / "y.safetensors", "peft")
    assert not (tmp_path / "y.safetensors").exists()


def test_a_written_file_says_what_it_is(tmp_path):
    made = LoraFile(network(TINY).adapters, {"ss_output_name": "ink", "sshs_model_hash": "old", "lora_adapter_metadata": "{}"}, "tiny")
    header = Header.read(write(made, tmp_path / "x.safetensors"))
    assert header.metadata["ss_output_name"] == "ink"
    assert header.metadata["ss_base_model_version"] == "loraloom_tiny_1"
    assert header.metadata["modelspec.architecture"] == "loraloom-tiny-1/lora"
    assert header.metadata["sshs_model_hash"] == header.content_hash()
    assert "lora_adapter_metadata" not in header.metadata, "diffusers would take its alphas"
    dtypes = {name.rpartition(".")[2]: entry.dtype for name, entry in header.entries.items()}
    assert dtypes == {"weight": "F16", "alpha": "F32"}


def test_a_closer_name_of_the_base_stays_and_another_bases_does_not(tmp_path):
    layer = next(layer for layer in SD2.layers if layer.attention)
    said = {"ss_base_model_version": "sd_v2_v", "modelspec.architecture": "stable-diffusion-v1/lora"}
    file = LoraFile({layer.target: random_lora(*layer.shape)}, said, "sd2")
    metadata = Header.read(write(file, tmp_path / "x.safetensors")).metadata
    assert metadata["ss_base_model_version"] == "sd_v2_v"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v2-512/lora"


def test_the_hash_does_not_know_the_metadata(tmp_path):
    made = network(NANO)
    other = LoraFile(made.adapters, {"a": "b"}, "nano")
    first, second = (Header.read(write(file, tmp_path / name)).metadata["sshs_model_hash"] for file, name in ((made, "1"), (other, "2")))
    assert first == second


def test_values_beyond_the_dtype_are_refused(tmp_path):
    adapter = random_lora(16, 24).map(lambda tensor: tensor * 1e6)
    made = LoraFile({TARGET: adapter}, {}, "nano")
    with pytest.raises(BadTensor, match=r"do not fit torch.float16; write float32 or bfloat16"):
        write(made, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []
    write(made, tmp_path / "x.safetensors", dtype=torch.bfloat16)


def test_writing_refuses_what_it_cannot_name(tmp_path):
    with pytest.raises(UnknownFormat, match='did you mean "kohya"'):
        write(network(NANO), tmp_path / "x", "kohia")
    with pytest.raises(DialectCannotHold, match="family 'flux'"):
        write(LoraFile({}, {}, "flux"), tmp_path / "x")
    with pytest.raises(DialectCannotHold, match=r"nano 1 has no module unet\.nowhere"):
        write(LoraFile({Target("unet", "nowhere"): random_lora(4, 4)}, {}, "nano"), tmp_path / "x")
    with pytest.raises(WriteFailed):
        write(network(NANO), tmp_path / "no" / "x")


# Reading strange files: applied + unknown = all.


def accounted(path, **options) -> LoraFile:
    """The file as read, after checking that each key is in an adapter or among the unknown ones with a reason."""
    found = read(path, **options)
    keys = set(Header.read(path).entries)
    unknown = [entry.split(": ", 1) for entry in found.unknown]
    assert all(reason for _, reason in unknown)
    names = {key for key, _ in unknown}
    assert names <= keys
    assert len(names) == len(unknown)
    matched = dialects.match(Header.read(path), next(base for base in BASES if base.family == found.base))
    assert {key for group in matched.groups.values() for key in group} == keys - names
    assert matched.groups.keys() == found.adapters.keys()
    return found


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"lora_unet_nowhere.lora_up.weight": torch.ones(1)}, "no module of this name"),
        ({"": torch.ones(1)}, "no module of this name"),
        ({f"{K}": torch.ones(1)}, "no module of this name"),
        (kohya(f"{K[:-4]}to_v", columns=25), "the adapter gives"),
        (kohya(f"{K[:-4]}to_v") | {f"{K[:-4]}to_v.lora_up.weight": torch.ones(16, 3)}, "no rank in common"),
        (kohya(f"{K[:-4]}to_v") | {f"{K[:-4]}to_v.lora_extra.weight": torch.ones(16, 1)}, "no adapter type has the tensors"),
        (
            kohya(f"{K[:-4]}to_v") | {f"{K[:-4]}to_v.dora_scale": torch.ones(15, 1)},
            "one number for neither the 16 outputs nor the 24 inputs",
        ),
        (kohya(f"{K[:-4]}to_v") | {f"{K[:-4]}to_v.dora_scale": torch.ones(16, 24)}, "not one number for each output"),
        (kohya(f"{K[:-4]}to_v") | {f"{K[:-4]}to_v.alpha": torch.ones(3)}, "one number"),
        (kohya(f"{K[:-4]}to_v") | {f"{K[:-4]}to_v.lora_up.weight": torch.ones(16, 2, dtype=torch.int32)}, "floating-point"),
        ({f"{K[:-4]}to_v.lora_up.weight": torch.ones(16, 2)}, "no adapter type has the tensors"),
        ({f"{K[:-4]}to_v.diff_b": torch.ones(15)}, "is not the bias of 16 outputs"),
        ({f"{K[:-4]}to_v.diff": torch.ones(16)}, "the adapter gives"),
        (kohya(f"{K[:-4]}to_v", rank=5000), "the limit is 4,096"),
        (kohya("lora_te_text_model_final_layer_norm"), "does not change a module of the kind norm"),
        (
            kohya("lora_te_text_model_embeddings_token_embedding", out=514)
            | {"lora_te_text_model_embeddings_token_embedding.diff_b": torch.ones(514)},
            "an embedding has no bias",
        ),
        ({f"{P}.lora_A.weight": torch.ones(2, 24)}, "more than once: the file has it in kohya naming too"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_key_that_is_not_used_has_its_reason(tmp_path, extra, reason):
    found = accounted(saved(tmp_path, kohya() | extra))
    assert set(found.adapters) == {TARGET}
    assert len(found.unknown) == len(extra)
    assert all(reason in entry for entry in found.unknown)


def test_nothing_of_a_module_is_used_when_one_of_its_tensors_is_foreign(tmp_path):
    """A type that is not known yet read as a LoRA would be wrong in silence."""
    with pytest.raises(NothingApplied, match="lora_extra"):
        read(saved(tmp_path, kohya() | {f"{K}.lora_extra": torch.ones(16, 1)}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("suffix", ["lora_down.weight", "lora_up.weight", "alpha"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_with_a_value_that_is_not_finite_is_refused_by_name(tmp_path, value, suffix, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in kohya().items()}
    tensors[f"{K}.{suffix}"].view(-1)[-1] = value
    with pytest.raises(BadTensor, match=rf"{K}\.{suffix} holds NaN or infinite values"):
        read(saved(tmp_path, tensors))


def test_what_was_read_does_not_change_with_the_file(tmp_path):
    path = saved(tmp_path, kohya())
    found = read(path)
    before = found.adapters[TARGET].down.clone()
    with path.open("r+b") as file:  # another program writes into the same file
        file.seek(Header.read(path).data_start)
        file.write(b"\0" * 64)
    assert torch.equal(found.adapters[TARGET].down, before)


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "1",
        '{"unet.lora_alpha": "x"}',
        '{"unet.alpha_pattern": [1]}',
        '{"unet.alpha_pattern": {"a": "b"}}',
        '{"unet.lora_alpha": 1e999}',
        '{"unet.lora_alpha": NaN}',
        "[" * 100_000,
        '{"unet.alpha_pattern": {"(a+)+b": 1}}',
        json.dumps({"unet.alpha_pattern": {f"m{i}": 1 for i in range(3000)}}),
    ],
    ids=lambda text: text[:40],
)
def test_a_config_that_is_not_what_peft_writes_is_refused(tmp_path, config):
    tensors = {f"{P}.lora_A.weight": torch.ones(2, 24), f"{P}.lora_B.weight": torch.ones(16, 2)}
    with pytest.raises(LoraError, match=r"lora_adapter_metadata|regular expression"):
        read(saved(tmp_path, tensors, lora_adapter_metadata=config))


@pytest.mark.parametrize(
    ("config", "alpha"),
    [
        ({}, 4),
        ({"lora_alpha": 8}, 8),
        ({"lora_alpha": 8, "use_rslora": True}, 16),
        ({"lora_alpha": 8, "alpha_pattern": {"to_k": 3}}, 3),
        ({"lora_alpha": 8, "alpha_pattern": {"attn2.to_k": 3, "to_k": 5}}, 3),
        ({"lora_alpha": 8, "alpha_pattern": {f"^{TARGET.module}": 3}}, 3),
        ({"lora_alpha": 8, "alpha_pattern": {"^to_k": 3, "o_k": 4, "to_q": 5}}, 8),
    ],
    ids=str,
)
def test_alpha_comes_from_the_config_as_peft_takes_it(tmp_path, config, alpha):
    tensors = {f"{P}.lora_A.weight": torch.ones(4, 24), f"{P}.lora_B.weight": torch.ones(16, 4)}
    path = saved(tmp_path, tensors, lora_adapter_metadata=json.dumps({f"unet.{key}": value for key, value in config.items()}))
    assert read(path).adapters[TARGET].alpha == alpha


def test_int64_alphas_and_half_files_read_as_they_are(tmp_path):
    tensors = {name: tensor.half() for name, tensor in kohya().items()} | {f"{K}.alpha": torch.tensor(2)}
    adapter = read(saved(tmp_path, tensors)).adapters[TARGET]
    assert isinstance(adapter, LoRA)
    assert (adapter.down.dtype, adapter.alpha.dtype, adapter.multiplier) == (torch.float16, torch.float32, 1.0)


SPELLED = [  # Target, as kohya's trainer writes it, and as others do
    ("unet.down_blocks.1.attentions.0.proj_in", "lora_unet_input_blocks_4_1_proj_in", "lora_unet_down_blocks_1_attentions_0_proj_in"),
    ("unet.add_embedding.linear_1", "lora_unet_label_emb_0_0", "lora_unet_add_embedding_linear_1"),
    ("unet.conv_out", "lora_unet_out_2", "lora_unet_conv_out"),
    ("text_encoder.text_model.encoder.layers.0.mlp.fc1", "lora_te1_text_model_encoder_layers_0_mlp_fc1", ""),
    ("text_encoder_2.text_model.encoder.layers.2.mlp.fc2", "lora_te2_text_model_encoder_layers_2_mlp_fc2", ""),
    ("text_encoder_2.text_projection", "lora_te2_text_projection", ""),
]


@pytest.mark.parametrize(("target", "kohyas", "other"), SPELLED)
@pytest.mark.parametrize("base", [SDXL, NANOXL], ids=lambda base: base.family)
def test_sdxl_is_written_as_its_trainer_names_it_and_read_either_way(tmp_path, base, target, kohyas, other):
    component, _, module = target.partition(".")
    layer = base.by_target[Target(component, module)]
    file = LoraFile({layer.target: random_lora(*layer.shape)}, {}, base.family)
    tensors = load_file(write(file, tmp_path / "a.safetensors"))
    assert tensors.keys() == {f"{kohyas}.{suffix}" for suffix in ("lora_down.weight", "lora_up.weight", "alpha")}
    renamed = {key.replace(kohyas, other or kohyas): tensor for key, tensor in tensors.items()}
    found = read(saved(tmp_path, renamed), base)
    assert (set(found.adapters), found.unknown) == ({layer.target}, ())


def test_a_mix_of_both_block_namings_is_one_network(tmp_path):
    made = network(NANOXL)
    tensors = load_file(write(made, tmp_path / "a.safetensors"))
    renamed = {key.replace("output_blocks_0_1", "up_blocks_0_attentions_0"): tensor for key, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    found = read(saved(tmp_path, renamed))
    assert (found.base, found.adapters.keys(), found.unknown) == ("nanoxl", made.adapters.keys(), ())


def test_a_family_with_one_text_encoder_has_no_number_for_it(tmp_path):
    for base in (SD1, SD2, NANO):
        layer = next(layer for layer in base.layers if layer.attention and layer.place.is_text)
        (key, *_) = load_file(write(LoraFile({layer.target: random_lora(*layer.shape)}, {}, base.family), tmp_path / "x"))
        assert key.startswith("lora_te_text_model_encoder_layers_0_self_attn_q_proj.")


def test_original_block_names_are_understood(tmp_path):
    key = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
    assert set(read(saved(tmp_path, kohya(key))).adapters) == {TARGET}
    assert load_file(tmp_path / "x.safetensors").keys() == kohya(key).keys()
