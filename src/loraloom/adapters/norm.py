"""norm: the change of a norm layer's weight and bias, either of which may be missing.  LyCORIS `train_norm`, arXiv:2309.14859."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import Adapter, Shape, key
from loraloom.adapters.like import along, like
from loraloom.errors import BadTensor
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class Norm(Adapter):
    name: ClassVar[str] = "norm"
    kinds: ClassVar[frozenset[str]] = frozenset({"norm"})

    weight: "Tensor | None" = key("w_norm", optional=True)  # [channels]
    shift: "Tensor | None" = key("b_norm", optional=True)  # [channels]

    @classmethod
    def accepts(cls, shapes: Mapping[str, Shape]) -> bool:
        return bool(shapes) and shapes.keys() <= {"w_norm", "b_norm"}

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
            listed = " and ".join(f"{suffix} {list(shape)}" for suffix, shape in sorted(shapes.items()))
            raise BadTensor(f"norm: {listed} are not one number for each channel")

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        return next(iter(shapes.values()))

    @classmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None) -> "Norm":
        """Zeros; a norm has no rank and no alpha."""
        return cls(weight=torch.zeros_like(weight, dtype=torch.float32), shift=torch.zeros_like(weight, dtype=torch.float32))

    def delta(self, weight: "Tensor") -> "Tensor":
        if self.weight is None:
            return torch.zeros_like(weight, dtype=torch.float32)
        return self.weight.to(weight.device, torch.float32)

    def bias_delta(self, bias: "Tensor") -> "Tensor | None":
        return None if self.shift is None else self.shift.to(bias.device, torch.float32)

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        """What is normalised times `weight`, plus `shift`."""
        shift = None if self.shift is None else self.shift.to(y.device, y.dtype)
        if self.weight is None:
            return torch.zeros_like(y) if shift is None else along(shift, layer).expand_as(y)
        return like(layer, x, self.weight.to(y.device, y.dtype), shift)

    def rows(self, start: int, stop: int) -> "Norm":
        return self.map(lambda tensor: tensor[start:stop])
