"""Module names of diffusers' UNet2DConditionModel, from the few numbers that its config varies.

Checked against the real class on the meta device in tests/bases. Original names are those of CompVis' latent-diffusion
(`input_blocks`, `middle_block`, `output_blocks`), which block weight vectors count by and SDXL files still use.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from loraloom.bases.base import Kind, Layer, Target, Third

_RESNET_ORIGINAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


@dataclass(frozen=True)
class UNet:
    """The numbers of one UNet: widths and attention from the outermost level inwards."""

    widths: tuple[int, ...]
    resnets: int  # layers_per_block
    attention: tuple[int, ...]  # transformer blocks at each level; 0 is a level without attention
    context: int  # cross_attention_dim
    linear_projection: bool = False  # proj_in/proj_out are Linear (SD 2, SDXL), else 1×1 convolutions
    channels: int = 4  # of the latents
    added_condition: int = 0  # width of SDXL's pooled text and size vector

    def layers(self) -> tuple[Layer, ...]:
        return tuple(_Walk(self).all())


@dataclass(frozen=True)
class _Spot:
    """Where the walk stands: diffusers' name, the original name, and the block that both belong to."""

    name: str
    original: str
    third: Third
    block: int | None

    def layer(self, name: str, original: str, kind: Kind, *shape: int, attention: bool = False) -> Layer:
        target = Target("unet", f"{self.name}.{name}".strip("."))
        return Layer(target, kind, shape, self.third, self.block, f"{self.original}.{original}".strip("."), attention)


class _Walk:
    """Yields the layers of one UNet in the order of execution."""

    def __init__(self, unet: UNet) -> None:
        self.unet = unet
        self.levels = len(unet.widths)
        self.half = self.levels * (unet.resnets + 1)  # input blocks; as many output blocks
        self.time = 4 * unet.widths[0]

    def all(self) -> Iterator[Layer]:
        unet = self.unet
        yield _Spot("", "", "in", 0).layer("conv_in", "input_blocks.0.0", "conv", unet.widths[0], unet.channels, 3, 3)
        first = _Spot("", "", "in", None)
        yield first.layer("time_embedding.linear_1", "time_embed.0", "linear", self.time, unet.widths[0])
        yield first.layer("time_embedding.linear_2", "time_embed.2", "linear", self.time, self.time)
        if unet.added_condition:
            yield first.layer("add_embedding.linear_1", "label_emb.0.0", "linear", self.time, unet.added_condition)
            yield first.layer("add_embedding.linear_2", "label_emb.0.2", "linear", self.time, self.time)
        yield from self._down()
        yield from self._mid()
        yield from self._up()
        last = _Spot("", "", "out", None)
        yield last.layer("conv_norm_out", "out.0", "norm", unet.widths[0])
        yield last.layer("conv_out", "out.2", "conv", unet.channels, unet.widths[0], 3, 3)

    def _down(self) -> Iterator[Layer]:
        unet, resnets = self.unet, self.unet.resnets
        for level, (before, width) in enumerate(pairwise((unet.widths[0], *unet.widths))):
            for index in range(resnets):
                block = level * (resnets + 1) + index + 1
                name, original = f"down_blocks.{level}", f"input_blocks.{block}"
                spot = _Spot(f"{name}.resnets.{index}", f"{original}.0", "in", block)
                yield from self._resnet(spot, before if index == 0 else width, width)
                spot = _Spot(f"{name}.attentions.{index}", f"{original}.1", "in", block)
                yield from self._transformer(spot, width, unet.attention[level])
            if level < self.levels - 1:
                block = (level + 1) * (resnets + 1)
                spot = _Spot(f"down_blocks.{level}.downsamplers.0", f"input_blocks.{block}.0", "in", block)
                yield spot.layer("conv", "op", "conv", width, width, 3, 3)

    def _mid(self) -> Iterator[Layer]:
        width, depth = self.unet.widths[-1], self.unet.attention[-1] or 1
        yield from self._resnet(_Spot("mid_block.resnets.0", "middle_block.0", "mid", self.half), width, width)
        yield from self._transformer(_Spot("mid_block.attentions.0", "middle_block.1", "mid", self.half), width, depth)
        yield from self._resnet(_Spot("mid_block.resnets.1", "middle_block.2", "mid", self.half), width, width)

    def _up(self) -> Iterator[Layer]:
        unet, resnets = self.unet, self.unet.resnets
        widths = unet.widths[::-1]
        for level, width in enumerate(widths):
            before = widths[max(0, level - 1)]
            skipped_last = widths[min(level + 1, self.levels - 1)]
            depth = unet.attention[::-1][level]
            for index in range(resnets + 1):
                number = level * (resnets + 1) + index
                name, original, block = f"up_blocks.{level}", f"output_blocks.{number}", self.half + 1 + number
                skipped = skipped_last if index == resnets else width
                spot = _Spot(f"{name}.resnets.{index}", f"{original}.0", "out", block)
                yield from self._resnet(spot, (before if index == 0 else width) + skipped, width)
                spot = _Spot(f"{name}.attentions.{index}", f"{original}.1", "out", block)
                yield from self._transformer(spot, width, depth)
            if level < self.levels - 1:
                spot = _Spot(f"{name}.upsamplers.0", f"{original}.{2 if depth else 1}", "out", block)
                yield spot.layer("conv", "conv", "conv", width, width, 3, 3)

    def _resnet(self, spot: _Spot, before: int, width: int) -> Iterator[Layer]:
        shapes: dict[str, tuple[Kind, tuple[int, ...]]] = {
            "norm1": ("norm", (before,)),
            "conv1": ("conv", (width, before, 3, 3)),
            "time_emb_proj": ("linear", (width, self.time)),
            "norm2": ("norm", (width,)),
            "conv2": ("conv", (width, width, 3, 3)),
        }
        if before != width:
            shapes["conv_shortcut"] = ("conv", (width, before, 1, 1))
        for name, (kind, shape) in shapes.items():
            yield spot.layer(name, _RESNET_ORIGINAL[name], kind, *shape)

    def _transformer(self, spot: _Spot, width: int, depth: int) -> Iterator[Layer]:
        if not depth:
            return

        def layer(name: str, kind: Kind, *shape: int) -> Layer:
            return spot.layer(name, name, kind, *shape, attention=kind != "norm")

        def projection(name: str) -> Layer:
            return layer(name, "linear", width, width) if self.unet.linear_projection else layer(name, "conv", width, width, 1, 1)

        yield layer("norm", "norm", width)
        yield projection("proj_in")
        for index in range(depth):
            block = f"transformer_blocks.{index}"
            for number, context in ((1, width), (2, self.unet.context)):
                yield layer(f"{block}.norm{number}", "norm", width)
                yield layer(f"{block}.attn{number}.to_q", "linear", width, width)
                yield layer(f"{block}.attn{number}.to_k", "linear", width, context)
                yield layer(f"{block}.attn{number}.to_v", "linear", width, context)
                yield layer(f"{block}.attn{number}.to_out.0", "linear", width, width)
            yield layer(f"{block}.norm3", "norm", width)
            yield layer(f"{block}.ff.net.0.proj", "linear", 8 * width, width)
            yield layer(f"{block}.ff.net.2", "linear", width, 4 * width)
        yield projection("proj_out")
