"""The layer tables are the real classes' own: names, shapes, counts, order, blocks."""

from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
import torch
import transformers
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from loraloom.bases import BASES, NANO, NANOXL, SD1, SD2, SDXL, TINY, Base, Layer, Target
from loraloom.bases.nano.layers import TEXT as NANO_TEXT
from loraloom.bases.nano.layers import UNET as NANO_UNET
from loraloom.bases.nanov.layers import TEXT as NANOV_TEXT
from loraloom.bases.nanov.layers import UNET as NANOV_UNET
from loraloom.bases.nanoxl.layers import TEXT as NANOXL_TEXT
from loraloom.bases.nanoxl.layers import TEXT_2 as NANOXL_TEXT_2
from loraloom.bases.nanoxl.layers import UNET as NANOXL_UNET
from loraloom.bases.sd1.layers import TEXT as SD1_TEXT
from loraloom.bases.sd1.layers import UNET as SD1_UNET
from loraloom.bases.sd2.layers import TEXT as SD2_TEXT
from loraloom.bases.sd2.layers import UNET as SD2_UNET
from loraloom.bases.sdxl.layers import TEXT as SDXL_TEXT
from loraloom.bases.sdxl.layers import TEXT_2 as SDXL_TEXT_2
from loraloom.bases.sdxl.layers import UNET as SDXL_UNET
from loraloom.bases.tiny.layers import TEXT as TINY_TEXT
from loraloom.bases.tiny.layers import UNET as TINY_UNET
from loraloom.bases.unet import UNet
from loraloom.dialects import DIALECTS
from loraloom.engine.live import recognise

UNETS = {
    "sd1": SD1_UNET,
    "sd2": SD2_UNET,
    "sdxl": SDXL_UNET,
    "tiny": TINY_UNET,
    "nano": NANO_UNET,
    "nanov": NANOV_UNET,
    "nanoxl": NANOXL_UNET,
}
KINDS = {
    torch.nn.Linear: "linear",
    torch.nn.Conv2d: "conv",
    torch.nn.GroupNorm: "norm",
    torch.nn.LayerNorm: "norm",
    torch.nn.Embedding: "embedding",
}


def meta_unet(numbers: UNet) -> UNet2DConditionModel:
    """diffusers' class, built from the same numbers."""
    down = tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in numbers.attention)
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,  # of the six sizes; what it makes of them is part of projection_class_embeddings_input_dim
        "projection_class_embeddings_input_dim": numbers.added_condition,
    }
    with torch.device("meta"):
        return UNet2DConditionModel(
            layers_per_block=numbers.resnets,
            block_out_channels=numbers.widths,
            down_block_types=down,
            up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
            transformer_layers_per_block=tuple(depth or 1 for depth in numbers.attention),
            cross_attention_dim=numbers.context,
            attention_head_dim=8,
            norm_num_groups=4,
            use_linear_projection=numbers.linear_projection,
            **(added if numbers.added_condition else {}),
        )


def modules_of(model: torch.nn.Module) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (kind, shape) of every module that holds a weight of its own."""
    return {name: (KINDS[type(module)], tuple(module.weight.shape)) for name, module in model.named_modules() if type(module) in KINDS}


@pytest.mark.parametrize("family", UNETS)
def test_a_unet_table_equals_the_real_class(family):
    model = meta_unet(UNETS[family])
    table = {layer.target.module: (layer.kind, layer.shape) for layer in UNETS[family].layers()}
    assert table == modules_of(model)
    weights = {f"{name}.weight" for name in table} | {f"{name}.bias" for name in table}
    assert {name for name, _ in model.named_parameters()} <= weights, "a parameter of the model that no layer of the table owns"


@pytest.mark.parametrize(
    "numbers",
    [SD1_TEXT, SD2_TEXT, SDXL_TEXT, SDXL_TEXT_2, TINY_TEXT, NANO_TEXT, NANOV_TEXT, NANOXL_TEXT, NANOXL_TEXT_2],
    ids=lambda numbers: f"{numbers.component} {numbers.width}",
)
@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_a_text_encoder_table_equals_the_real_class_in_both_spellings(numbers, kind):
    """transformers 5 has no `text_model.` in CLIPTextModel and has it in CLIPTextModelWithProjection; the table always has it."""
    config = transformers.CLIPTextConfig(
        vocab_size=numbers.vocabulary,
        hidden_size=numbers.width,
        intermediate_size=4 * numbers.width,
        num_hidden_layers=numbers.depth,
        num_attention_heads=8,
        max_position_embeddings=numbers.positions,
        projection_dim=numbers.projection or 512,
    )
    with torch.device("meta"):
        found = modules_of(getattr(transformers, kind)(config))
    table = {layer.target.module: (layer.kind, layer.shape) for layer in numbers.layers()}
    if not (numbers.projection and kind == "CLIPTextModelWithProjection"):
        found.pop("text_projection", None)
        table.pop("text_projection", None)
    assert {name if name.startswith("text_") else f"text_model.{name}": value for name, value in found.items()} == table


@pytest.mark.parametrize(
    ("base", "lora", "locon", "everything", "texts"),
    [(SD1, 192, 278, 282, [72]), (SD2, 192, 278, 282, [138]), (SDXL, 722, 788, 794, [72, 192])],  # formats.md §6
    ids=lambda value: getattr(value, "family", ""),
)
def test_target_counts_are_those_of_the_field(base, lora, locon, everything, texts):
    layers = [layer for layer in base.layers if layer.kind in ("linear", "conv") and layer.target.component == "unet"]
    outside = [layer for layer in layers if "." not in layer.target.module or "embedding" in layer.target.module]
    assert sum(layer.attention for layer in layers) == lora
    assert len(layers) - len(outside) == locon
    assert len(layers) == everything
    trained = Counter(layer.target.component for layer in base.layers if layer.attention and layer.place.is_text)
    assert list(trained.values()) == texts


@pytest.mark.parametrize("family", ["sd1", "sdxl", "tiny", "nano", "nanoxl"])
def test_original_names_are_those_that_diffusers_converts_from(family):
    numbers = UNETS[family]
    model = meta_unet(numbers)
    layers = {layer.target.module: layer for layer in numbers.layers()}
    checkpoint = {}
    for name, _ in model.named_parameters():
        module, _, parameter = name.rpartition(".")
        checkpoint[f"model.diffusion_model.{layers[module].original}.{parameter}"] = name
    config = {**model.config, "class_embed_type": None}
    converted = convert_ldm_unet_checkpoint(checkpoint, config)
    assert {name: name for name in checkpoint.values()} == dict(converted)


@pytest.mark.parametrize(("family", "blocks"), [("sd1", 25), ("sd2", 25), ("sdxl", 19), ("tiny", 13), ("nano", 9), ("nanoxl", 19)])
def test_blocks_count_on_through_the_thirds_as_the_original_names_do(family, blocks):
    layers = UNETS[family].layers()
    half = blocks // 2
    for layer in layers:
        head, number = (*layer.original.split("."), "")[:2]
        expected = {"input_blocks": ("in", number), "middle_block": ("mid", 0), "output_blocks": ("out", number)}.get(head)
        if expected is None:
            assert layer.block is None, f"{layer.target} stands outside of the blocks"
            assert layer.third == ("out" if head == "out" else "in")
        else:
            third, index = expected
            assert (layer.third, layer.block) == (third, {"in": 0, "mid": half, "out": half + 1}[third] + int(index))
    assert {layer.block for layer in layers} - {None} == set(range(blocks))


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
def test_layers_come_in_the_order_of_execution(base: Base):
    blocks = [layer.block for layer in base.layers if layer.block is not None]
    assert blocks == sorted(blocks)


def test_the_sd1_blocks_with_attention_are_those_of_the_17_numbers():
    """sd-webui-lora-block-weight's BLOCKID17: IN01 02 04 05 07 08, M00, OUT03 to OUT11."""
    found = {layer.block for layer in SD1.layers if layer.attention and not layer.place.is_text}
    assert found == {1, 2, 4, 5, 7, 8, 12, *range(16, 25)}


def test_the_sdxl_blocks_with_attention_are_those_of_the_12_numbers():
    """BLOCKID12: IN04 05 07 08, M00, OUT00 to OUT05."""
    found = {layer.block for layer in SDXL.layers if layer.attention and not layer.place.is_text}
    assert found == {4, 5, 7, 8, 9, *range(10, 16)}


@pytest.mark.parametrize(
    ("module", "original"),
    [  # as kohya's SDXL files spell them
        ("down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k", "input_blocks.4.1.transformer_blocks.1.attn2.to_k"),
        ("down_blocks.2.attentions.1.proj_in", "input_blocks.8.1.proj_in"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj", "middle_block.1.transformer_blocks.9.ff.net.0.proj"),
        ("up_blocks.0.attentions.2.transformer_blocks.9.attn1.to_out.0", "output_blocks.2.1.transformer_blocks.9.attn1.to_out.0"),
        ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
        ("up_blocks.2.resnets.2.conv_shortcut", "output_blocks.8.0.skip_connection"),
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("conv_in", "input_blocks.0.0"),
        ("conv_out", "out.2"),
    ],
)
def test_original_names_of_sdxl(module, original):
    assert SDXL.by_target[Target("unet", module)].original == original


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_no_two_targets_are_spelled_alike(base, dialect):
    """But for text encoders in namings that leave the component out: there a file of one of them fits by its width or not at all."""
    spelled: defaultdict[str, list[Layer]] = defaultdict(list)
    for layer in base.layers:
        for prefix in set(dialect.spell(layer, base)):
            spelled[prefix].append(layer)
    for layers in spelled.values():
        assert len({layer.target.component for layer in layers}) == len(layers)
        if len(layers) > 1:
            assert all(layer.target.component.startswith("text_encoder") for layer in layers)
            assert dialect.name in ("peft-folder", "old-diffusers", "lycoris")
    widths = {
        layer.shape
        for layers in spelled.values()
        if len(layers) > 1
        for layer in layers
        if layer.target.module.endswith(".0.self_attn.q_proj")
    }
    assert len(widths) in (0, len(base.text_widths))


def test_bases_are_told_apart_by_everything_that_detection_reads():
    for attribute in ("family", "title", "version", "architecture", "context_width"):
        assert len({getattr(base, attribute) for base in BASES}) == len(BASES)
    assert (SD1.blocks, SDXL.blocks, TINY.blocks, NANO.blocks, NANOXL.blocks) == (25, 19, 13, 9, 19)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
def test_the_engine_recognises_each_family_by_its_unet(base):
    assert recognise(SimpleNamespace(unet=meta_unet(UNETS[base.family]))) is base


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
def test_a_base_says_of_itself_what_its_layers_say(base):
    layers = {str(layer.target): layer for layer in base.layers}
    keys = [layer.shape[1] for name, layer in layers.items() if name.endswith("attn2.to_k")]
    assert set(keys) == {base.context_width}
    encoders = [name for name in base.components if name.startswith("text_encoder")]
    assert base.components == ("unet", *encoders)
    assert tuple(layers[f"{name}.text_model.final_layer_norm"].shape[0] for name in encoders) == base.text_widths
