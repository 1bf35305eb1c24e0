"""LoRA and LoCon: delta = (alpha/r) · up down, with a Tucker core for convolutions.

LoRA: Hu et al. 2021, arXiv:2106.09685. LoCon and the Tucker form, delta[i,j,..] = (alpha/r) Σ_mn up[i,m] mid[m,n,..] down[n,j]:
Yeh et al. 2023 (LyCORIS), arXiv:2309.14859.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import MAX_RANK, Shape, as_target, key
from loraloom.adapters.scaled import Scaled, by_rank, drawn
from loraloom.errors import BadTensor, LimitExceeded
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Conv2d, Module


@dataclass(frozen=True, eq=False)
class LoRA(Scaled):
    name: ClassVar[str] = "lora"
    kinds: ClassVar[frozenset[str]] = frozenset({"linear", "conv", "embedding"})
    late: ClassVar[frozenset[str]] = frozenset({"up"})

    down: "Tensor" = key("lora_down.weight")  # [rank, in, *kernel]; with mid: [rank, in, 1, 1]
    up: "Tensor" = key("lora_up.weight")  # [out, rank], on convolutions [out, rank, 1, 1]
    mid: "Tensor | None" = key("lora_mid.weight", optional=True)  # [rank, rank, *kernel], the Tucker core

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        down, up, mid = shapes["lora_down.weight"], shapes["lora_up.weight"], shapes.get("lora_mid.weight")
        rank = down[0] if len(down) >= 2 else 0
        if rank > MAX_RANK:
            raise LimitExceeded(f"lora: rank {rank:,}, the limit is {MAX_RANK:,}")
        if not rank or len(up) < 2 or up[1] != rank or math.prod(up[2:]) != 1:
            raise BadTensor(f"lora: down {list(down)} and up {list(up)} have no rank in common")
        if mid is not None and (len(mid) < 3 or mid[:2] != (rank, rank) or math.prod(down[2:]) != 1):
            raise BadTensor(f"lora: the Tucker core {list(mid)} does not continue down {list(down)}")
        if shapes.get("diff_b", up[:1]) != up[:1]:
            raise BadTensor(f"lora: diff_b {list(shapes['diff_b'])} is not the bias of {up[0]} outputs")

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        down, up, mid = shapes["lora_down.weight"], shapes["lora_up.weight"], shapes.get("lora_mid.weight")
        kernel = down[2:] if mid is None else mid[2:]
        return as_target((up[0], down[1], *kernel), target)

    @classmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None, tucker: bool = False) -> "LoRA":
        """down uniform as torch.nn.Linear's own default, up zero; `tucker` adds a core on kernels larger than 1×1."""
        out, columns, *kernel = weight.shape
        points = [1] * len(kernel)
        core = tucker and math.prod(kernel) > 1
        uniform = drawn(weight, generator)
        return cls(
            down=uniform(rank, columns, *(points if core else kernel)),
            up=torch.zeros(out, rank, *points, device=weight.device),
            mid=uniform(rank, rank, *kernel) if core else None,
            alpha=torch.tensor(float(alpha)),
        )

    def delta(self, weight: "Tensor") -> "Tensor":
        down, up = self.factors(tuple(weight.shape))
        return (up.to(weight.device) @ down.to(weight.device)).reshape(weight.shape)

    def factors(self, shape: Shape) -> "tuple[Tensor, Tensor]":
        """Always exact; the rank stays the file's own, a Tucker core is folded into down."""
        down, up = self.down.float(), self.up.float().flatten(1)
        if self.mid is not None:
            down = torch.einsum("mn...,nj->mj...", self.mid.float(), down.flatten(1))
        return down.flatten(1), up * self.multiplier

    def thin(self, shape: Shape) -> "tuple[Tensor, Tensor, float]":
        if self.mid is not None:
            return (*self.factors(shape), 1.0)
        return self.down.flatten(1), self.up.flatten(1), self.multiplier

    def cut(self, rank: int) -> "LoRA":
        """Networks trained for it (DyLoRA, arXiv:2210.07558) have the most important ranks first."""
        if rank >= self.rank:
            return self
        core = {} if self.mid is None else {"mid": self.mid[:rank, :rank]}
        scale = torch.tensor(self.multiplier, dtype=torch.float32)
        return replace(self, down=self.down[:rank], up=self.up[:, :rank], **core, alpha=None, scale=scale, scalar=None)

    def weighed(self, ranks: "Tensor") -> "LoRA":
        return replace(self, down=by_rank(self.down, ranks))

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        """up(multiplier · down(x)) + bias; the scale goes where the tensor is smallest."""
        if isinstance(layer, torch.nn.Embedding):  # x are the rows' numbers
            down, up, factor = self.thin(tuple(layer.weight.shape))
            return (torch.nn.functional.embedding(x, up.to(y.dtype)) * factor) @ down.to(y.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if isinstance(layer, torch.nn.Conv2d):
            inner = self._inner(layer, x) * self.multiplier
            return torch.nn.functional.conv2d(inner, self.up.flatten(1)[..., None, None].to(x.dtype), bias)
        inner = torch.nn.functional.linear(x, self.down.flatten(1).to(x.dtype)) * self.multiplier
        return torch.nn.functional.linear(inner, self.up.flatten(1).to(x.dtype), bias)

    def _inner(self, layer: "Conv2d", x: "Tensor") -> "Tensor":
        """down(x), or mid(down(x)); the kernel walks as the layer's own: stride, padding and its mode, dilation."""
        if self.mid is None:
            core = self.down.reshape(*self.down.shape[:2], *layer.kernel_size)
        else:
            core = self.mid
            x = torch.nn.functional.conv2d(x, self.down.flatten(1)[..., None, None].to(x.dtype))
        convolved: Tensor = layer._conv_forward(x, core.to(x.dtype), None)
        return convolved

    def rows(self, start: int, stop: int) -> "LoRA":
        return self.with_tensors({"up": self.up[start:stop], **({} if self.bias is None else {"bias": self.bias[start:stop]})})
