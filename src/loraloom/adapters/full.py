"""full: delta = diff, the whole change of a weight as fine-tuning left it; a bias may stand alone.  LyCORIS, arXiv:2309.14859."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import Adapter, Shape, as_target, key
from loraloom.adapters.like import along, like
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class Full(Adapter):
    name: ClassVar[str] = "full"
    kinds: ClassVar[frozenset[str]] = frozenset({"linear", "conv", "norm", "embedding"})

    diff: "Tensor | None" = key("diff", optional=True)  # the weight's shape; none where only the bias changes

    @classmethod
    def accepts(cls, shapes: Mapping[str, Shape]) -> bool:
        return bool(shapes) and super().accepts(shapes)

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        return as_target(shapes.get("diff", target), target)

    @classmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None) -> "Full":
        """Zeros; a whole change has no rank and no alpha."""
        return cls(diff=torch.zeros_like(weight, dtype=torch.float32))

    @property
    def degree(self) -> int:
        return 1

    def delta(self, weight: "Tensor") -> "Tensor":
        if self.diff is None:
            return torch.zeros_like(weight, dtype=torch.float32)
        return self.diff.to(weight.device, torch.float32).reshape(weight.shape)

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        bias = None if self.bias is None else self.bias.to(y.device, y.dtype)
        if self.diff is None:
            return torch.zeros_like(y) if bias is None else along(bias, layer).expand_as(y)
        weight: Tensor = layer.weight  # type: ignore[assignment]
        return like(layer, x, self.diff.to(y.device, y.dtype).reshape(weight.shape), bias)

    def rows(self, start: int, stop: int) -> "Full":
        return self.map(lambda tensor: tensor[start:stop])
