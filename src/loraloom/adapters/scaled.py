"""The numbers that multiply a product of low rank: alpha/rank, or the file's own `scale`, times a `scalar`."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from loraloom.adapters.base import Adapter, key
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Scaled(Adapter):
    """An adapter whose delta is `multiplier` times a product of its tensors."""

    alpha: "Tensor | None" = key("alpha", optional=True, number=True)  # none: the scale is 1
    scale: "Tensor | None" = key("scale", optional=True, number=True)  # replaces alpha/rank
    scalar: "Tensor | None" = key("scalar", optional=True, number=True)  # one more factor

    @property
    @abstractmethod
    def rank(self) -> int | None:
        """The rank that alpha is divided by; None where nothing is factored and alpha says nothing."""

    @property
    def multiplier(self) -> float:
        """alpha/rank, or the file's own scale; 1 where the file has neither, or no rank."""
        if self.scale is not None:
            value = float(self.scale)
        elif self.alpha is not None and self.rank is not None:
            value = float(self.alpha) / self.rank
        else:
            value = 1.0
        return value if self.scalar is None else value * float(self.scalar)

    def scaling(self) -> tuple[int, float] | None:
        return None if self.rank is None else (self.rank, self.multiplier)

    def unscaled(self) -> Self:
        """The same tensors without the numbers."""
        return replace(self, alpha=None, scale=None, scalar=None)

    @property
    def degree(self) -> int:
        return len(self.trainable().keys() - {"bias"})

    def by_alpha(self) -> Self:
        if self.rank is None or (self.alpha is not None and self.scale is None and self.scalar is None):
            return self
        return replace(self.unscaled(), alpha=torch.tensor(self.multiplier * self.rank, dtype=torch.float32))


def whole(matrix: "Tensor") -> "tuple[Tensor, Tensor]":
    """The pair (down, up) of a matrix that is not factored: itself and the identity of its shorter side."""
    out, columns = matrix.shape
    if out <= columns:
        return matrix, torch.eye(out, dtype=matrix.dtype, device=matrix.device)
    return torch.eye(columns, dtype=matrix.dtype, device=matrix.device), matrix


def by_rank(tensor: "Tensor | None", ranks: "Tensor") -> "Tensor":
    """A tensor whose first dimension is the rank, each rank times its number."""
    assert tensor is not None
    return tensor * ranks.to(tensor).reshape(-1, *[1] * (tensor.ndim - 1))


def drawn(weight: "Tensor", generator: "torch.Generator | None") -> "Callable[..., Tensor]":
    """`drawn(weight, generator)(*shape)`: uniform in ±1/√(fan in), as torch draws a Linear or convolution, on the weight's device."""

    def uniform(*shape: int) -> "Tensor":
        values = torch.rand(shape, generator=generator, device=generator.device if generator else "cpu")
        return ((2 * values - 1) * (1 / math.sqrt(math.prod(shape[1:])))).to(weight.device)

    return uniform
