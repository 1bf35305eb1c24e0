"""Laws of an inspection: what the file holds is what is said, each key has its place or a reason, and nothing private is reported."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from loraloom import dialects
from loraloom.adapters import DoRA, Full, LoRA, Norm
from loraloom.bases import NANO, SD1, TINY, Target
from loraloom.catalogue.inspecting import inspect, listing
from loraloom.errors import FileError, NotSafetensors
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
Q = K.replace("to_k", "to_q")


def lora(name=K, rank=4, columns=24, out=16, alpha=None):
    tensors = {f"{name}.lora_down.weight": torch.ones(rank, columns), f"{name}.lora_up.weight": torch.ones(out, rank)}
    return tensors if alpha is None else tensors | {f"{name}.alpha": torch.tensor(alpha)}


def saved(folder, tensors, **metadata):
    save_file(tensors, folder / "x.safetensors", {key.replace("__", "."): value for key, value in metadata.items()} or None)
    return folder / "x.safetensors"


def test_what_a_network_holds_is_what_is_said(make_lora, tmp_path):
    found = inspect(make_lora(tmp_path / "ink.safetensors", rank=4, metadata={"modelspec.trigger_phrase": "zvz"}))
    layers = [layer for layer in NANO.layers if layer.attention and layer.kind in ("linear", "conv")]
    assert (found.name, found.family, found.confidence, found.dialect) == ("ink.safetensors", "nano", "certain", "kohya")
    assert (found.types, found.modules, found.ranks, found.alphas) == ({"lora": len(layers)}, len(layers), (4, 4, 4), (4, 4, 4))
    assert [(part.name, part.modules, part.attention[0] == part.attention[1]) for part in found.components] == [
        (name, sum(layer.target.component == name for layer in layers), True) for name in NANO.components
    ]
    assert (found.triggers, found.unused, found.warnings, found.problem) == (("zvz",), (), (), "")
    assert found.size == (tmp_path / "ink.safetensors").stat().st_size
    assert sum(found.dtypes.values()) == found.size - Header.read(tmp_path / "ink.safetensors").data_start


def test_every_key_has_its_place_or_a_reason(tmp_path):
    tensors = lora() | {"lora_unet_nowhere.lora_up.weight": torch.ones(2, 2), "strange": torch.ones(1)} | lora(Q, out=3)
    found = inspect(saved(tmp_path, tensors), keys=True)
    assert {key.name for key in found.keys} == tensors.keys()
    assert all(bool(key.target) != bool(key.reason) for key in found.keys)
    assert {unused.key for unused in found.unused} == {key.name for key in found.keys if key.reason}
    own = next(key for key in found.keys if key.name == f"{K}.lora_up.weight")
    assert own[1:] == ("F32", (16, 4), "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", "lora", "")


def test_types_ranks_and_axes_of_a_mixed_file(tmp_path):
    layers = {layer.target.module: layer for layer in NANO.layers if layer.target.component == "unet"}
    k, q = (layers[f"down_blocks.0.attentions.0.transformer_blocks.0.attn2.{name}"] for name in ("to_k", "to_q"))
    norm = next(layer for layer in layers.values() if layer.kind == "norm")
    inner = LoRA(down=torch.ones(2, *q.shape[1:]), up=torch.ones(q.shape[0], 2), alpha=torch.tensor(1.0))
    adapters = {
        k.target: LoRA(down=torch.ones(6, *k.shape[1:]), up=torch.ones(k.shape[0], 6), alpha=torch.tensor(3.0)),
        q.target: DoRA.of(inner, magnitude=torch.ones(1, q.shape[1])),
        norm.target: Norm(weight=torch.ones(norm.shape)),
    }
    found = inspect(dialects.write(LoraFile(adapters, {}, "nano"), tmp_path / "x.safetensors"))
    assert found.types == {"lora": 1, "lora+dora": 1, "norm": 1}
    assert (found.ranks[:2], found.alphas[:2]) == ((2, 6), (1, 3))
    assert found.dora == {"input": 1}


@pytest.mark.parametrize(("shape", "axis"), [((16, 1), "output"), ((1, 24), "input")])
def test_the_axis_of_a_dora_is_told(tmp_path, shape, axis):
    assert inspect(saved(tmp_path, lora() | {f"{K}.dora_scale": torch.ones(shape)})).dora == {axis: 1}


def test_metadata_tells_how_it_was_trained(tmp_path):
    told = {
        "ss_network_module": "lycoris.kohya",
        "ss_network_dim": "4",
        "ss_network_alpha": "2.0",
        "ss_steps": "1175",
        "ss_learning_rate": "0.0001",
        "ss_sd_model_name": "base\nmodel.safetensors",
        "ss_optimizer": "None",
        "ss_training_finished_at": "1700000000.0",
        "ss_dataset_dirs": '{"10_zvz": {"n_repeats": 10, "img_count": 24}}',
        "modelspec__author": "a" * 1000,
    }
    training = inspect(saved(tmp_path, lora(), **told)).training
    assert (training.trainer, training.rank, training.alpha, training.steps) == ("kohya sd-scripts with LyCORIS", "4", "2.0", "1175")
    assert (training.base_model, training.optimizer, training.pictures) == ("base model.safetensors", "", "24")
    assert (training.finished, len(training.author)) == ("2023-11-14T22:13:20+00:00", 300)


@pytest.mark.parametrize("value", ["{", "[]", "[" * 100_000, "1e999", "null", '{"step": {"a": 1}, "name": []}'])
def test_metadata_that_is_anything_is_no_error(tmp_path, value):
    keys = ("ss_network_args", "training_info", "software", "ss_dataset_dirs", "ss_tag_frequency", "lora_adapter_metadata")
    found = inspect(saved(tmp_path, lora(alpha=1.0), **dict.fromkeys(keys, value), ss_training_finished_at=value))
    assert found.modules == 1 or found.problem


def test_metadata_that_contradicts_the_tensors_is_told(tmp_path):
    found = inspect(saved(tmp_path, lora(columns=2048, out=640), ss_base_model_version="sd_v1", ss_network_dim="64"))
    assert (found.family, found.confidence, len(found.contradictions)) == ("sdxl", "likely", 1)
    assert "the metadata says rank 64, the tensors have 4 to 4" in found.warnings[0]


@pytest.mark.parametrize(
    ("arguments", "module", "words"),
    [
        ({"block_size": "4"}, "networks.dylora", "trained as DyLoRA in blocks of 4 ranks"),
        ({"algo": "dylora", "block_size": "2"}, "lycoris.kohya", "which is 2 times as much"),
        ({"block_size": "1"}, "networks.dylora", ""),
        ({"block_size": "x"}, "networks.dylora", ""),
    ],
)
def test_blocks_of_dylora_are_a_warning(tmp_path, arguments, module, words):
    found = inspect(saved(tmp_path, lora(), ss_network_module=module, ss_network_args=json.dumps(arguments)))
    assert [words in warning for warning in found.warnings] == ([True] if words else [])


def test_a_rank_that_is_in_no_file_is_a_warning(tmp_path):
    whole = {f"{K}.lokr_w1": torch.ones(4, 4), f"{K}.lokr_w2": torch.ones(4, 6), f"{K}.alpha": torch.tensor(1.0)}
    found = inspect(saved(tmp_path, whole, ss_network_args='{"algo": "lokr", "rs_lora": "True"}'))
    assert (found.types, found.ranks) == ({"lokr": 1}, None)
    assert "LyCORIS does not store the rank" in found.warnings[0]
    assert inspect(saved(tmp_path, whole)).warnings == ()


def test_eight_bits_are_a_warning(tmp_path):
    tensors = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in lora().items()}
    assert "stored in F8_E4M3" in inspect(saved(tmp_path, tensors)).warnings[0]


def test_rslora_is_told(tmp_path):
    assert inspect(saved(tmp_path, lora(), ss_network_args='{"rs_lora": "True"}')).rslora
    assert inspect(saved(tmp_path, lora(), lora_adapter_metadata='{"unet.use_rslora": true}')).rslora
    assert not inspect(saved(tmp_path, lora())).rslora


def test_tlora_is_refused_with_its_reason(tmp_path):
    tensors = {f"{K}.q_layer.weight": torch.ones(2, 768), f"{K}.p_layer.weight": torch.ones(320, 2), f"{K}.lambda_layer": torch.ones(1, 2)}
    found = inspect(saved(tmp_path, tensors))
    assert (found.family, found.modules) == ("sd1", 0)
    for text in (found.problem, *(unused.reason for unused in found.unused)):
        assert "T-LoRA takes away a part of the base's own weights" in text


def test_alpha_zero_changes_nothing_and_is_told(tmp_path):
    assert "every alpha is 0" in inspect(saved(tmp_path, lora(alpha=0.0))).warnings[0]


@pytest.mark.parametrize("prefix", ["transformer.single_transformer_blocks.0.attn.to_q", "diffusion_model.double_blocks.0.img_attn.qkv"])
def test_a_family_without_a_table_is_described_by_the_endings_of_its_keys(tmp_path, prefix):
    tensors = {f"{prefix}.lora_A.weight": torch.ones(8, 3072), f"{prefix}.lora_B.weight": torch.ones(3072, 8), "other": torch.ones(1)}
    found = inspect(saved(tmp_path, tensors), keys=True)
    assert (found.family, found.base, found.types, found.ranks) == (None, "Flux.1", {"lora": 1}, (8, 8, 8))
    assert [part.attention for part in found.components] == [None]
    assert found.unused[0].key == "other"


def test_a_checkpoint_is_no_network_and_says_so(tmp_path):
    found = inspect(saved(tmp_path, {"first_stage_model.x.weight": torch.ones(2, 2)}))
    assert (found.modules, found.confidence) == (0, "cannot tell")
    assert "no tensor of it belongs to an adapter type" in found.warnings[0]


def test_a_folder_of_peft_is_one_network(tmp_path):
    layer = next(layer for layer in TINY.layers if layer.attention and layer.kind == "linear")
    adapter = LoRA(down=torch.ones(2, layer.shape[1]), up=torch.ones(layer.shape[0], 2), alpha=torch.tensor(4.0))
    text = next(layer for layer in TINY.layers if layer.place.is_text and layer.attention)
    other = LoRA(down=torch.ones(3, text.shape[1]), up=torch.ones(text.shape[0], 3), alpha=torch.tensor(3.0))
    dialects.write(LoraFile({layer.target: adapter, text.target: other}, {}, "tiny"), tmp_path / "ink", "peft-folder")
    found = inspect(tmp_path / "ink")
    assert (found.name, found.modules, found.tensors) == ("ink", 2, 6)
    assert [(part.name, part.modules) for part in found.components] == [("unet", 1), ("text_encoder", 1)]
    assert (found.ranks[:2], found.alpha_from) == ((2, 3), "alpha from its config")


def test_hashes_are_those_that_sites_and_trainers_write(make_lora, tmp_path):
    path = make_lora(tmp_path / "ink.safetensors")
    found = inspect(path, hash=True).hashes
    content, start = path.read_bytes(), Header.read(path).data_start
    model = hashlib.sha256(content[start:]).hexdigest()
    assert (found.sha256, found.model, found.autov3) == (hashlib.sha256(content).hexdigest(), model, model[:12])
    assert (found.legacy, found.agrees) == (hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8], True)
    assert inspect(path).hashes is None


def test_the_first_hash_of_the_webui_is_of_the_same_bytes_wherever_blocks_end(tmp_path):
    path = saved(tmp_path, {"x": torch.arange(600_000, dtype=torch.int32)})
    content = path.read_bytes()
    assert inspect(path, hash=True).hashes.legacy == hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]


@pytest.mark.parametrize(("told", "agrees", "warns"), [("0x" + "ab" * 32, None, 0), ("ab" * 32, False, 1), ("", None, 0)])
def test_a_hash_that_is_not_the_files_is_a_warning_but_for_lycoris_own(tmp_path, told, agrees, warns):
    found = inspect(saved(tmp_path, lora(), **({"sshs_model_hash": told} if told else {})), hash=True)
    assert (found.hashes.agrees, len(found.warnings)) == (agrees, warns)


@pytest.mark.parametrize("content", [b"", b"PK\3\4" + b"x" * 40, b"<html><body>", b"text"])
def test_what_is_no_safetensors_file_is_an_error(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(NotSafetensors):
        inspect(tmp_path / "x.safetensors")
    with pytest.raises(FileError, match="cannot be read"):
        inspect(tmp_path / "nowhere.safetensors")


def test_a_file_without_tensors_is_described(tmp_path):
    found = inspect(saved(tmp_path, {}, ss_base_model_version="sd_v1"))
    assert (found.family, found.tensors, found.modules) == ("sd1", 0, 0)
    assert found.problem


# The listing, which people attach to bug reports.

PRIVATE = {
    "ss_tag_frequency": '{"10_my secret": {"secret": 1}}',
    "ss_dataset_dirs": '{"10_my secret": {}}',
    "ss_datasets": "secret",
    "ss_output_name": "secret",
    "ss_sd_model_name": "/home/secret/base.safetensors",
    "ss_network_dim": "/home/secret/x",
    "ss_network_args": '{"algo": "loha", "comment": "secret"}',
    "modelspec__title": "secret",
    "modelspec__author": "secret",
    "modelspec__implementation": "C:\\secret\\x",
    "modelspec__architecture": "stable-diffusion-v1/lora",
    "lora_adapter_metadata": '{"unet.r": 4, "unet.base_model_name_or_path": "/home/secret"}',
    "software": "see /home/secret/x",
}


def test_a_listing_has_nothing_private_and_all_that_reading_needs(tmp_path):
    path = saved(tmp_path / ".", lora(columns=768, out=320), **PRIVATE)
    text = listing(Header.read(path))
    document = json.loads(text)
    assert "secret" not in text
    assert str(tmp_path) not in text
    assert document["family"] == "sd1"
    assert document["keys"] == {f"{K}.lora_down.weight": ["F32", [4, 768]], f"{K}.lora_up.weight": ["F32", [320, 4]]}
    assert document["metadata"] == {
        "lora_adapter_metadata": '{"unet.r":4}',
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "ss_network_args": '{"algo":"loha"}',
    }
    assert list(document["keys"]) == sorted(document["keys"])
    assert text == listing(Header.read(path))


def test_a_listing_has_no_weights(make_lora, tmp_path):
    path = make_lora(tmp_path / "a.safetensors", SD1, rank=8)
    assert len(listing(Header.read(path))) < 150 * len(Header.read(path).entries)


def test_a_whole_change_has_no_rank(tmp_path):
    target = Target("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k")
    full = Full(diff=torch.ones(NANO.by_target[target].shape))
    found = inspect(dialects.write(LoraFile({target: full}, {}, "nano"), tmp_path / "x.safetensors"))
    assert (found.types, found.ranks, found.alphas) == ({"full": 1}, None, None)
