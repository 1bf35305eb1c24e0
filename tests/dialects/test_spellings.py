"""Each naming as its tool writes it: literal names land on their modules, and every spelling of every layer of a base is one layer's."""

import pytest
import torch
from safetensors.torch import save_file
from support import close, network, random_lora

from loraloom.adapters import DoRA, LoRA
from loraloom.bases import BASES, NANO, NANOXL, SD1, SD2, SDXL, Target
from loraloom.dialects import DIALECTS, by_name, read, write
from loraloom.errors import DialectCannotHold, NothingApplied
from loraloom.lorafile import LoraFile

ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
TEXT = "text_model.encoder.layers.3.self_attn.q_proj"
Q, OUT = Target("unet", f"{ATTENTION}.to_q"), Target("unet", f"{ATTENTION}.to_out.0")
T1, T2 = Target("text_encoder", TEXT), Target("text_encoder_2", TEXT)
U = ATTENTION.replace(".", "_")
ORIGINAL = "input_blocks.4.1.transformer_blocks.0.attn1"
LITERAL = [  # base, dialect, key without its half, target
    (SD1, "kohya", f"lora_unet_{U}_to_q.lora_{{}}.weight", Q),
    (SD1, "kohya", f"lora_unet_{ORIGINAL.replace('.', '_')}_to_q.lora_{{}}.weight", Q),
    (SD1, "kohya", f"lora_te_{TEXT.replace('.', '_')}.lora_{{}}.weight", T1),
    (SD1, "kohya", f"lora_te1_{TEXT.replace('.', '_')}.lora_{{}}.weight", T1),
    (SD1, "kohya", "lora_te_encoder_layers_3_self_attn_q_proj.lora_{}.weight", T1),  # LyCORIS under transformers 5
    (SDXL, "kohya", f"lora_te2_{TEXT.replace('.', '_')}.lora_{{}}.weight", T2),
    (SD1, "kohya", f"oft_unet_{U}_to_q.lora_{{}}.weight", Q),
    (SD1, "peft", f"unet.{ATTENTION}.to_q.lora_[].weight", Q),
    (SD1, "peft", f"unet.{ATTENTION}.to_out.0.lora_[].default.weight", OUT),
    (SD1, "peft", f"unet.{ATTENTION}.to_q.lora.{{}}.weight", Q),
    (SD1, "peft", f"text_encoder.{TEXT}.lora_linear_layer.{{}}.weight", T1),
    (SD1, "peft-folder", f"base_model.model.{ATTENTION}.to_q.lora_[].weight", Q),
    (SD1, "peft-folder", "base_model.model.encoder.layers.3.self_attn.q_proj.lora_[].weight", T1),
    (SD1, "old-diffusers", f"unet.{ATTENTION}.processor.to_q_lora.{{}}.weight", Q),
    (SD1, "old-diffusers", f"{ATTENTION}.processor.to_out_lora.{{}}.weight", OUT),
    (SD1, "old-diffusers", f"{ATTENTION}.to_q.lora.{{}}.weight", Q),
    (SD1, "lycoris", f"lycoris_{U}_to_q.lora_{{}}.weight", Q),
    (SD1, "lycoris", f"lycoris_te_{TEXT.replace('.', '_')}.lora_{{}}.weight", T1),
    (SD1, "lycoris", f"{U}_to_q.lora_{{}}.weight", Q),
    (SDXL, "onetrainer", f"unet.{ORIGINAL}.to_q.lora_{{}}.weight", Q),
    (SDXL, "onetrainer", f"clip_l.{TEXT}.lora_{{}}.weight", T1),
    (SDXL, "onetrainer", f"clip_g.{TEXT}.lora_{{}}.weight", T2),
    (SDXL, "comfyui", f"diffusion_model.{ORIGINAL}.to_out.0.lora_{{}}.weight", OUT),
    (SDXL, "comfyui", f"text_encoders.clip_g.transformer.{TEXT}.lora_{{}}.weight", T2),
    (SD2, "comfyui", f"text_encoders.clip_h.transformer.{TEXT}.lora_{{}}.weight", T1),
    (SDXL, "ai-toolkit", f"diffusion_model.{ATTENTION}.to_q.lora_[].weight", Q),
]


def halves(key: str) -> tuple[str, str]:
    """The names of the two factors."""
    return (key.replace("[]", "A"), key.replace("[]", "B")) if "[]" in key else (key.format("down"), key.format("up"))


def saved(folder, tensors, **metadata):
    save_file(tensors, folder / "x.safetensors", metadata or None)
    return folder / "x.safetensors"


@pytest.mark.parametrize(("base", "dialect", "key", "target"), LITERAL, ids=lambda value: value if isinstance(value, str) else "")
def test_a_name_as_its_tool_writes_it_is_the_module(tmp_path, base, dialect, key, target):
    out, columns = base.by_target[target].shape[:2]
    down, up = halves(key)
    found = read(saved(tmp_path, {down: torch.ones(2, columns), up: torch.full((out, 2), 0.5)}), base, force=True)
    assert (found.dialect, set(found.adapters), found.unknown) == (dialect, {target}, ())
    assert torch.equal(found.adapters[target].delta(torch.zeros(base.by_target[target].shape)).flatten(), torch.ones(out * columns))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
def test_no_spelling_is_two_layers(base, dialect):
    """But where the component is unsaid, as in PEFT's folders, and the second text encoder has the first one's names."""
    owners: dict[str, set] = {}
    for layer in base.layers:
        for prefix in dialect.spell(layer, base):
            owners.setdefault(prefix, set()).add(layer.target)
    shared = [targets for targets in owners.values() if len(targets) > 1]
    bare = dialect.name in ("peft-folder", "old-diffusers", "lycoris")
    assert all(bare and {target.component for target in targets} == {"text_encoder", "text_encoder_2"} for targets in shared)
    if dialect.writes and dialect.name != "peft-folder":
        written = [dialect.spell(layer, base)[0] for layer in base.layers]
        assert len(set(written)) == len(written)


def test_one_file_may_mix_namings(tmp_path):
    """A kohya UNet with diffusers' text encoder, and a stray OneTrainer module."""
    made = network(NANO)
    tensors = {}
    for number, (target, adapter) in enumerate(made.adapters.items()):
        dialect = by_name("peft" if target.component == "text_encoder" else "comfyui" if number == 0 else "kohya")
        layer = NANO.by_target[target]
        tensors |= dialect.write_tensors(adapter, layer, NANO)
    found = read(saved(tmp_path, tensors), NANO)
    assert (found.dialect, found.unknown, found.adapters.keys()) == ("kohya", (), made.adapters.keys())
    weights = {target: torch.zeros(NANO.by_target[target].shape) for target in made.adapters}
    assert all(
        close(adapter.delta(weights[target]), made.adapters[target].delta(weights[target])) for target, adapter in found.adapters.items()
    )


def test_what_is_named_twice_counts_once(tmp_path):
    made = network(NANO, lambda layer: layer.attention and layer.target.component == "unet")
    first = next(iter(made.adapters))
    layer = NANO.by_target[first]
    tensors = {
        key: tensor
        for target, adapter in made.adapters.items()
        for key, tensor in by_name("kohya").write_tensors(adapter, NANO.by_target[target], NANO).items()
    }
    again = by_name("comfyui").write_tensors(random_lora(*layer.shape, seed=9), layer, NANO)
    found = read(saved(tmp_path, tensors | again), NANO)
    assert {entry.split(": ")[0] for entry in found.unknown} == again.keys()
    assert torch.equal(found.adapters[first].down, made.adapters[first].down)


def test_cloneofsimo_counts_as_diffusers_0_11_did():
    """SD 1.x: 9 modules in each of 16 blocks; down, up, mid; the second of a block is to_k, the fifth GEGLU's projection."""
    unet = [layer for layer in SD1.layers if by_name("cloneofsimo").spell(layer, SD1) and layer.target.component == "unet"]
    assert len(unet) == 144
    numbers = {by_name("cloneofsimo").spell(layer, SD1)[0]: layer.target.module for layer in unet}
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert [numbers[f"unet:{number}"] for number in (0, 1, 3, 4, 5, 8)] == [
        f"{block}.{name}" for name in ("attn1.to_q", "attn1.to_k", "attn1.to_out.0", "ff.net.0.proj", "attn2.to_q", "attn2.to_out.0")
    ]
    assert numbers["unet:54"].startswith("up_blocks.1.attentions.0.")
    assert numbers["unet:135"].startswith("mid_block.")
    text = {
        by_name("cloneofsimo").spell(layer, SD1)[0]: layer.target.module
        for layer in SD1.layers
        if layer.place.is_text and by_name("cloneofsimo").spell(layer, SD1)
    }
    assert [text[f"text_encoder:{number}"].rpartition(".")[2] for number in range(4)] == ["k_proj", "v_proj", "q_proj", "out_proj"]


def test_cloneofsimo_is_read_whole_or_not_at_all(tmp_path):
    spell = by_name("cloneofsimo").spell
    tensors, expected = {"<s1>": torch.ones(4)}, {}
    for layer in NANO.layers:
        for prefix in spell(layer, NANO):
            adapter = random_lora(*layer.shape, rank=2, alpha=None, seed=len(expected))
            expected[layer.target] = adapter
            tensors |= {f"{prefix}:down": adapter.down, f"{prefix}:up": adapter.up}
    found = read(saved(tmp_path, tensors), NANO)
    assert (found.dialect, found.adapters.keys()) == ("cloneofsimo", expected.keys())
    assert found.unknown == ("<s1>: a textual inversion token of cloneofsimo's, no change of a module",)
    assert all(torch.equal(adapter.up, expected[target].up) for target, adapter in found.adapters.items())
    del tensors["unet:0:up"], tensors["unet:0:down"]
    with pytest.raises(NothingApplied, match="which is which cannot be told"):
        read(saved(tmp_path, tensors), NANO)


def test_onetrainers_helper_tensors_are_left_out_with_the_reason(tmp_path):
    layer = NANO.by_target[Target("unet", "conv_in")]
    tensors = by_name("kohya").write_tensors(random_lora(*layer.shape), layer, NANO) | {"lora_unet_aux.scale": torch.ones(1)}
    tensors["unet_aux.x"] = torch.ones(1)
    found = read(saved(tmp_path, tensors), NANO)
    assert sorted(found.unknown) == [
        f"{key}: a helper tensor of OneTrainer's training, which it drops itself" for key in ("lora_unet_aux.scale", "unet_aux.x")
    ]


MAGNITUDES = [  # suffix, shape as stored, shape inside, of a square layer
    ("lora_magnitude_vector", (24,), (24, 1)),
    ("lora_magnitude_vector.weight", (24,), (24, 1)),
    ("magnitude", (24,), (24, 1)),
    ("dora_scale", (24,), (24, 1)),
    ("dora_scale", (24, 1), (24, 1)),
    ("dora_scale", (1, 24), (1, 24)),
    ("lora_magnitude_vector", (1, 24), (24, 1)),
]


@pytest.mark.parametrize(("suffix", "stored", "inside"), MAGNITUDES, ids=str)
def test_the_name_says_whose_norms_before_the_shape_does(tmp_path, suffix, stored, inside):
    """A wrong guess broadcasts in silence on a square layer."""
    prefix = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    tensors = {
        f"{prefix}.lora_A.weight": torch.ones(2, 24),
        f"{prefix}.lora_B.weight": torch.ones(24, 2),
        f"{prefix}.{suffix}": torch.ones(stored),
    }
    (adapter,) = read(saved(tmp_path, tensors), NANO).adapters.values()
    assert isinstance(adapter, DoRA)
    assert adapter.magnitude.shape == inside


def test_a_bare_vector_goes_by_its_length(tmp_path):
    layer = next(layer for layer in NANO.layers if layer.target.module.endswith("attn2.to_k"))  # 16 outputs, 24 inputs
    prefix = by_name("kohya").spell(layer, NANO)[0]
    for length, inside in ((16, (16, 1)), (24, (1, 24))):
        tensors = by_name("kohya").write_tensors(random_lora(16, 24), layer, NANO) | {f"{prefix}.dora_scale": torch.ones(length)}
        assert read(saved(tmp_path, tensors), NANO).adapters[layer.target].magnitude.shape == inside


def test_alpha_beside_pefts_names_counts(tmp_path):
    prefix = "unet.conv_in"
    tensors = {
        f"{prefix}.lora_A.weight": torch.ones(2, 4, 3, 3),
        f"{prefix}.lora_B.weight": torch.ones(16, 2, 1, 1),
        f"{prefix}.alpha": torch.tensor(1),
    }
    (adapter,) = read(saved(tmp_path, tensors), NANO).adapters.values()
    assert isinstance(adapter, LoRA)
    assert adapter.multiplier == 0.5


@pytest.mark.parametrize(("prefix", "moves"), [("lora_unet", True), ("oft_unet", False)])
def test_alpha_0_clamps_kohyas_oft_and_not_lycoris(tmp_path, prefix, moves):
    layer = next(layer for layer in NANO.layers if layer.target.module.endswith("attn2.to_k"))
    name = f"{prefix}_{layer.target.module.replace('.', '_')}"
    blocks = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(1))
    found = read(saved(tmp_path, {f"{name}.oft_blocks": blocks, f"{name}.alpha": torch.tensor(0.0)}), NANO)
    assert bool((found.adapters[layer.target].delta(torch.ones(layer.shape)).abs() > 1e-3).any()) == moves


def test_peft_transposes_an_embeddings_factors(tmp_path):
    """PEFT's delta is (B A)ᵀ · alpha/r (peft/tuners/lora, Embedding.get_delta_weight)."""
    a, b = torch.randn(3, 514), torch.randn(24, 3)
    prefix = "base_model.model.text_model.embeddings.token_embedding"
    path = saved(tmp_path, {f"{prefix}.lora_embedding_A": a, f"{prefix}.lora_embedding_B": b})
    (adapter,) = read(path, NANO).adapters.values()
    assert close(adapter.delta(torch.zeros(514, 24)), (b @ a).T)


@pytest.mark.parametrize("base", [NANO, NANOXL], ids=lambda base: base.family)
def test_words_that_come_with_a_network_are_written_too_or_refused(tmp_path, base):
    words = {
        "ink": {name: torch.randn(2, width) for name, width in zip(("text_encoder", "text_encoder_2"), base.text_widths, strict=False)}
    }
    made = LoraFile(network(base).adapters, {}, base.family, embeddings=words)
    found = read(write(made, tmp_path / "x.safetensors", dtype=torch.float32))
    assert found.embeddings.keys() == {"ink"}
    assert all(torch.equal(found.embeddings["ink"][name], tensor) for name, tensor in words["ink"].items())
    for dialect in DIALECTS:
        if dialect.writes and dialect.name != "kohya":
            with pytest.raises(DialectCannotHold, match=r"'ink'.*write it in kohya naming"):
                write(made, tmp_path / "y", dialect.name)


def test_what_is_only_read_says_so(tmp_path):
    with pytest.raises(DialectCannotHold, match=r"cloneofsimo naming is only read; those that are written are kohya"):
        write(network(NANO), tmp_path / "x", "cloneofsimo")
