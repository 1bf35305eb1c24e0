"""Sparse residue of LyCORIS' extraction: delta = the inner type's + single values at their places.  arXiv:2309.14859.

The three tensors are called bias_* in files, but they have the weight's shape, not the bias's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from loraloom.adapters.base import Adapter, Shape, key
from loraloom.adapters.full import Full
from loraloom.adapters.like import like
from loraloom.adapters.wrapper import Wrapper
from loraloom.errors import BadTensor
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class Sparse(Wrapper):
    tag: ClassVar[str] = "sparse"

    indices: "Tensor" = key("bias_indices", integer=True)  # [dimensions, values]
    values: "Tensor" = key("bias_values")  # [values]
    size: "Tensor" = key("bias_size", integer=True)  # [dimensions]: the weight's shape

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        indices, values, size = (shapes[suffix] for suffix in ("bias_indices", "bias_values", "bias_size"))
        if len(indices) != 2 or len(values) != 1 or len(size) != 1 or indices != (size[0], values[0]):
            raise BadTensor(f"{cls.name}: indices {list(indices)}, values {list(values)} and size {list(size)} do not go together")

    @classmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None, **options: Any) -> "Sparse":
        """The inner type's own beginning, and one value, 0, at the weight's first place: it comes from extraction, not from training."""
        inner: Any = cls.inner_type
        size = torch.tensor(weight.shape)
        return cls(
            inner=inner.init(weight, rank=rank, alpha=alpha, generator=generator, **options),
            indices=torch.zeros(weight.ndim, 1, dtype=torch.int64),
            values=torch.zeros(1),
            size=size,
        )

    def delta(self, weight: "Tensor") -> "Tensor":
        return self.inner.delta(weight) + self._dense(weight)

    @property
    def degree(self) -> int:
        """The single values are multiplied with nothing."""
        return 0

    def bound(self, weight: "Tensor") -> Adapter:
        """One dense change where nothing depends on the layer's output."""
        return self if self.reads_weight else Full(diff=self.delta(weight).to(weight.dtype), bias=self.inner.bias)

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        weight: Tensor = layer.weight  # type: ignore[assignment]
        return self.inner.branch(layer, x, y) + like(layer, x, self._dense(weight).to(y.dtype))

    def _dense(self, weight: "Tensor") -> "Tensor":
        """Raises BadTensor for places outside of the weight."""
        size = tuple(int(length) for length in self.size)
        limits = torch.tensor(size, device=self.indices.device)[:, None]
        inside = bool(((self.indices >= 0) & (self.indices < limits)).all())
        if min(size) < 0 or math.prod(size) != weight.numel() or size[0] != len(weight) or not inside:
            raise BadTensor(f"{self.name}: a residue for a weight of {list(size)} with places outside of {list(weight.shape)}")
        dense = torch.zeros(size, device=weight.device, dtype=torch.float32)
        dense.index_put_(tuple(self.indices.to(weight.device)), self.values.to(weight.device, torch.float32), accumulate=True)
        return dense.reshape(weight.shape)
