"""LoRA and LoCon: delta = (alpha/r) · up down, with a Tucker core for convolutions.

LoRA: Hu et al. 2021, arXiv:2106.09685. LoCon and the Tucker form, delta[i,j,..] = (alpha/r) Σ_mn up[i,m] mid[m,n,..] down[n,j]:
Yeh et al. 2023 (LyCORIS), arXiv:2309.14859.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from loraloom.adapters.base import Adapter, Shape, key
from loraloom.errors import BadTensor
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class LoRA(Adapter):
    name: ClassVar[str] = "lora"

    down: "Tensor" = key("lora_down.weight")  # [rank, in, *kernel]; with mid: [rank, in, 1, 1]
    up: "Tensor" = key("lora_up.weight")  # [out, rank], on convolutions [out, rank, 1, 1]
    mid: "Tensor | None" = key("lora_mid.weight", optional=True)  # [rank, rank, *kernel], the Tucker core
    alpha: "Tensor | None" = key("alpha", optional=True, trainable=False)  # scalar; none: the scale is 1
    scale: "Tensor | None" = key("scale", optional=True, trainable=False)  # scalar; replaces alpha/rank
    scalar: "Tensor | None" = key("scalar", optional=True)  # scalar; one more factor
    bias: "Tensor | None" = key("diff_b", optional=True)  # [out], added to the module's bias

    @classmethod
    def from_tensors(cls, tensors: "Mapping[str, Tensor]") -> Self:
        adapter = super().from_tensors(tensors)
        rank = adapter.rank
        if adapter.up.ndim < 2 or adapter.down.ndim < 2 or adapter.up.shape[1] != (rank if adapter.mid is None else adapter.mid.shape[0]):
            raise BadTensor(f"LoRA: down {tuple(adapter.down.shape)} and up {tuple(adapter.up.shape)} have no rank in common")
        if adapter.mid is not None and (adapter.mid.ndim < 3 or adapter.mid.shape[1] != rank):
            raise BadTensor(f"LoRA: the Tucker core {tuple(adapter.mid.shape)} does not continue down {tuple(adapter.down.shape)}")
        return adapter

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    @property
    def multiplier(self) -> float:
        """alpha/rank, or the file's own scale; 1 where the file has neither."""
        if self.scale is not None:
            value = float(self.scale)
        elif self.alpha is not None:
            value = float(self.alpha) / self.rank
        else:
            value = 1.0
        return value if self.scalar is None else value * float(self.scalar)

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        down, up, mid = shapes["lora_down.weight"], shapes["lora_up.weight"], shapes.get("lora_mid.weight")
        kernel = down[2:] if mid is None else mid[2:]
        found = (up[0], down[1], *kernel)
        # A Linear file on a 1×1 convolution and the reverse are the same matrix; both are common in SD 1.x and 2.x files.
        linear_on_pointwise = len(found) != len(target) and found[:2] == target[:2] and math.prod(found) == math.prod(target)
        return target if linear_on_pointwise else found

    @classmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None, tucker: bool = False) -> "LoRA":
        """down uniform as torch.nn.Linear's own default, up zero; `tucker` adds a core on kernels larger than 1×1."""
        out, columns, *kernel = weight.shape
        points = [1] * len(kernel)
        core = tucker and math.prod(kernel) > 1

        def uniform(*shape: int) -> "Tensor":
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            values = torch.rand(shape, generator=generator, device=generator.device if generator else "cpu")
            return ((2 * values - 1) * bound).to(weight.device)

        return cls(
            down=uniform(rank, columns, *(points if core else kernel)),
            up=torch.zeros(out, rank, *points, device=weight.device),
            mid=uniform(rank, rank, *kernel) if core else None,
            alpha=torch.tensor(float(alpha)),
        )

    def delta(self, weight: "Tensor") -> "Tensor":
        down, up = self.factors(tuple(weight.shape))
        return (up.to(weight.device) @ down.to(weight.device)).reshape(weight.shape)

    def bias_delta(self, bias: "Tensor") -> "Tensor | None":
        return None if self.bias is None else self.bias.to(bias.device, torch.float32)

    def factors(self, shape: Shape) -> "tuple[Tensor, Tensor]":
        """Always exact; the rank stays the file's own, a Tucker core is folded into down."""
        down, up = self.down.float(), self.up.float().flatten(1)
        if self.mid is not None:
            down = torch.einsum("mn...,nj->mj...", self.mid.float(), down.flatten(1))
        return down.flatten(1), up * self.multiplier

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        conv = torch.nn.functional.conv2d
        if not isinstance(layer, torch.nn.Conv2d):
            inner = torch.nn.functional.linear(x, self.down.flatten(1).to(x.dtype))
            added = torch.nn.functional.linear(inner, self.up.flatten(1).to(x.dtype)) * self.multiplier
        else:
            down = self.down if self.down.ndim == 4 else self.down[:, :, None, None]
            up = self.up.flatten(1)[:, :, None, None]
            core = down if self.mid is None else self.mid
            inner = x if self.mid is None else conv(x, down.to(x.dtype))
            inner = conv(inner, core.to(x.dtype), None, layer.stride, layer.padding, layer.dilation)
            added = conv(inner, up.to(x.dtype)) * self.multiplier
        if self.bias is None:
            return added
        bias = self.bias.to(x.dtype)
        return added + (bias[:, None, None] if isinstance(layer, torch.nn.Conv2d) else bias)

    def rows(self, start: int, stop: int) -> "LoRA":
        return self.with_tensors({"up": self.up[start:stop], **({} if self.bias is None else {"bias": self.bias[start:stop]})})
