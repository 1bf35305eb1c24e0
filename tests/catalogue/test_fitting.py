"""Laws of a fit: it says what drawing would do, used and unused tensors are all tensors, and blocks add up to modules."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraloom import dialects
from loraloom.bases import NANO, NANOXL, SD1, SDXL
from loraloom.catalogue.inspecting import fit
from loraloom.errors import BadTensor, BaseError, MatchError
from loraloom.tensorfile import Header

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(name=K, columns=24, out=16):
    return {f"{name}.lora_down.weight": torch.ones(2, columns), f"{name}.lora_up.weight": torch.ones(out, 2)}


def saved(folder, tensors, **metadata):
    save_file(tensors, folder / "x.safetensors", metadata or None)
    return folder / "x.safetensors"


def drawable(path, base):
    """Whether reading for this base raises nothing."""
    try:
        dialects.read(path, base)
    except MatchError:
        return False
    return True


def test_a_whole_network_fits_whole_and_its_blocks_add_up(make_lora, tmp_path):
    path = make_lora(tmp_path / "ink.safetensors")
    found = fit(path)
    assert (found.verdict, found.reason, found.unused, found.base) == ("whole", "", (), NANO.title)
    assert found.used == found.tensors == len(Header.read(path).entries)
    assert found.modules == sum(part.modules for part in found.components) == found.tensors // 3
    for part in found.components:
        assert sum(block.attention.modules + block.rest.modules for block in part.blocks) == part.modules
        layers = sum(layer.target.component == part.component for layer in NANO.layers)
        assert sum(block.attention.of + block.rest.of for block in part.blocks) == layers


@pytest.mark.parametrize(("base", "blocks"), [(SD1, (12, 1, 12)), (SDXL, (9, 1, 9))])
def test_blocks_are_named_as_block_weights_count(tmp_path, base, blocks):
    layer = next(layer for layer in base.layers if layer.target.module.endswith("attn2.to_k"))
    name = f"lora_unet_{layer.target.module.replace('.', '_')}"
    found = fit(saved(tmp_path, lora(name, layer.shape[1], layer.shape[0])))
    assert (found.verdict, found.family) == ("whole", base.family)
    names = [block.name for block in next(part for part in found.components if part.component == "unet").blocks]
    counted = [sum(name.startswith(start) for name in names) for start in ("IN", "M", "OUT")]
    assert tuple(counted) == blocks
    assert {"in", "out"} <= set(names)
    assert len(names) == len(set(names))


def test_a_part_that_does_not_fit_is_told_with_its_reasons(tmp_path):
    tensors = lora() | lora("lora_unet_nowhere") | lora(K.replace("to_k", "to_v"), out=5)
    found = fit(saved(tmp_path, tensors))
    assert (found.verdict, found.used, found.modules) == ("partly", 2, 1)
    assert {unused.key for unused in found.unused} == tensors.keys() - lora().keys()
    assert found.reason == "4 of 6 tensors are not used"
    assert fit(saved(tmp_path, tensors), strict=True).verdict == "not"


@pytest.mark.parametrize(
    ("tensors", "metadata", "base", "verdict", "reason"),
    [
        (lora(), {}, SD1, "not", "made for loraloom nano 1 (cross-attention 24 wide); the base is SD 1.x"),
        (lora(columns=640), {}, SD1, "not", "it does not say what base it was made for (cross-attention 640 wide); the base is SD 1.x"),
        (lora(), {"ss_base_model_version": "sd_v1"}, NANO, "whole", ""),
        (lora(), {"ss_base_model_version": "flux1"}, None, "whole", ""),  # the tensors count
        (lora("lora_unet_conv_in"), {}, NANO, "not", "unet.conv_in of loraloom nano 1"),
        ({"x": torch.ones(1)}, {}, NANO, "not", "none of its 1 tensors fits"),
        ({}, {"ss_base_model_version": "sd_v1"}, None, "not", "the file has no tensors"),
    ],
)
def test_the_verdict_is_what_drawing_would_do(tmp_path, tensors, metadata, base, verdict, reason):
    path = saved(tmp_path, tensors, **metadata)
    found = fit(path, base)
    assert found.verdict == verdict
    assert reason in found.reason
    assert drawable(path, base) == (verdict != "not")
    assert found.used + len(found.unused) == found.tensors


def test_what_says_nothing_is_matched_with_a_warning(tmp_path):
    tensors = {"lora_unet_conv_in.lora_down.weight": torch.ones(2, 4, 3, 3), "lora_unet_conv_in.lora_up.weight": torch.ones(16, 2, 1, 1)}
    found = fit(saved(tmp_path, tensors), NANO)
    assert (found.verdict, found.warnings) == ("whole", ("matched with loraloom nano 1 by names and shapes",))


def test_a_family_without_a_table_needs_a_base(tmp_path):
    path = saved(tmp_path, {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(2, 3072)})
    with pytest.raises(BaseError, match=r"made for Flux\.1 .*there is no table of its modules here"):
        fit(path)
    assert fit(path, SDXL).verdict == "not"


def test_a_file_with_one_text_encoder_of_two_covers_one(make_lora, tmp_path):
    tensors = load_file(make_lora(tmp_path / "a.safetensors", NANOXL))
    found = fit(saved(tmp_path, {key: tensor for key, tensor in tensors.items() if "te2" not in key}))
    assert [(part.component, bool(part.modules)) for part in found.components] == [
        ("unet", True),
        ("text_encoder", True),
        ("text_encoder_2", False),
    ]


def broken(tmp_path, **values):
    """A LoRA on two modules of nano; of the first, tensors are filled with these values by suffix."""
    layers = [layer for layer in NANO.layers if layer.kind == "linear" and layer.attention and not layer.place.is_text][:2]
    tensors = {}
    for number, layer in enumerate(layers):
        prefix = f"lora_unet_{layer.target.module.replace('.', '_')}"
        own = {
            "lora_down.weight": torch.ones(2, layer.shape[1]),
            "lora_up.weight": torch.ones(layer.shape[0], 2),
            "alpha": torch.tensor(2.0),
        }
        if not number:
            for name, value in values.items():
                own[name.replace("__", ".")].view(-1)[0 if value else slice(None)] = value
        tensors |= {f"{prefix}.{suffix}": tensor for suffix, tensor in own.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_does_not_fit_and_is_named(tmp_path, value):
    path = broken(tmp_path, alpha=value)
    found = fit(path, NANO)
    assert (found.verdict, found.reason.partition(" ")[0].rpartition(".")[2]) == ("not", "alpha")
    with pytest.raises(BadTensor, match="alpha holds NaN or infinite values"):
        dialects.read(path, NANO)


@pytest.mark.parametrize("suffix", ["lora_down__weight", "lora_up__weight"])
def test_every_value_is_looked_at_where_that_is_asked_for(tmp_path, suffix):
    path = broken(tmp_path, **{suffix: float("nan")})
    assert fit(path, NANO).verdict == "whole"
    found = fit(path, NANO, deep=True)
    assert found.verdict == "not"
    assert f"{suffix.replace('__', '.')} holds NaN" in found.reason


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ()),
        ({"lora_up__weight": 0.0}, ("1 modules are zero, unet.",)),
        ({"alpha": 0.0}, ("1 modules are zero, unet.",)),
        ({"lora_up__weight": 70_000.0}, ("1 tensors hold values beyond float16, up to 7e+04 in ",)),
    ],
)
def test_zeros_and_values_beyond_float16_are_told(tmp_path, changed, told):
    found = fit(broken(tmp_path, **changed), NANO, deep=True)
    assert found.verdict == "whole"
    sentences = [each for each in found.warnings if "matched with" not in each]
    assert len(sentences) == len(told)
    assert all(sentence.startswith(begins) for sentence, begins in zip(sentences, told, strict=True))
