"""The layer tables are the real classes' own: names, shapes, counts, order, blocks."""

from collections import Counter

import pytest
import torch
import transformers
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from loraloom.bases import BASES, NANO, SD1, TINY, Base
from loraloom.bases.clip import TextEncoder
from loraloom.bases.nano.layers import UNET as NANO_UNET
from loraloom.bases.sd1.layers import UNET as SD1_UNET
from loraloom.bases.tiny.layers import UNET as TINY_UNET
from loraloom.bases.unet import UNet
from loraloom.dialects import DIALECTS

# Families without a folder yet, to hold the walk to what their UNets vary: depth, Linear projections, added conditions.
SD2_UNET = UNet(widths=(320, 640, 1280, 1280), resnets=2, attention=(1, 1, 1, 0), context=1024, linear_projection=True)
SDXL_UNET = UNet((320, 640, 1280), resnets=2, attention=(0, 2, 10), context=2048, linear_projection=True, added_condition=2816)
UNETS = {"sd1": SD1_UNET, "tiny": TINY_UNET, "nano": NANO_UNET, "sd2": SD2_UNET, "sdxl": SDXL_UNET}
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
        "addition_time_embed_dim": 256,
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
    [
        TextEncoder("text_encoder", 768, 12),
        TextEncoder("text_encoder", 192, 2, 3566, 24),
        TextEncoder("text_encoder_2", 1280, 32, projection=1280),
    ],
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
    found.pop("text_projection") if not numbers.projection and "text_projection" in found else table.pop("text_projection", None)
    found.pop("text_projection", None)
    assert {name if name.startswith("text_model.") else f"text_model.{name}": value for name, value in found.items()} == table


@pytest.mark.parametrize(
    ("family", "lora", "locon", "everything"),
    [("sd1", 192, 278, 282), ("sd2", 192, 278, None), ("sdxl", 722, 788, 794)],  # formats.md §6
)
def test_target_counts_are_those_of_the_field(family, lora, locon, everything):
    layers = [layer for layer in UNETS[family].layers() if layer.kind in ("linear", "conv")]
    outside = [layer for layer in layers if "." not in layer.target.module or "embedding" in layer.target.module]
    assert sum(layer.attention for layer in layers) == lora
    assert len(layers) - len(outside) == locon
    assert everything is None or len(layers) == everything
    assert sum(layer.attention for layer in SD1.layers if layer.place.is_text) == 72


@pytest.mark.parametrize("family", ["sd1", "sdxl", "tiny", "nano"])
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


@pytest.mark.parametrize(("family", "blocks"), [("sd1", 25), ("sdxl", 19), ("tiny", 13), ("nano", 9)])
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


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_no_two_targets_are_spelled_alike(base, dialect):
    spelled = Counter(prefix for layer in base.layers for prefix in set(dialect.spell(layer)))
    assert [prefix for prefix, count in spelled.items() if count > 1] == []


def test_bases_are_told_apart_by_everything_that_detection_reads():
    for attribute in ("family", "title", "version", "architecture", "context_width"):
        assert len({getattr(base, attribute) for base in BASES}) == len(BASES)
    assert (SD1.blocks, TINY.blocks, NANO.blocks) == (25, 13, 9)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.family)
def test_a_base_says_of_itself_what_its_layers_say(base):
    layers = {str(layer.target): layer for layer in base.layers}
    keys = [layer.shape[1] for name, layer in layers.items() if name.endswith("attn2.to_k")]
    assert set(keys) == {base.context_width}
    assert layers["text_encoder.text_model.final_layer_norm"].shape == (base.text_widths[0],)
    assert base.components == ("unet", "text_encoder")
