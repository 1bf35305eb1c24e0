"""The change of one module's weight by one network or several: the weighted sum, as factors where it has them, and what it is made into."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from loraloom.adapters import Adapter, Full
from loraloom.bases import Layer, Target
from loraloom.combine.goal import Goal
from loraloom.combine.rangefinder import spectrum_of
from loraloom.combine.spectrum import Spectrum, product_norm
from loraloom.errors import NotSupported
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Weights = Callable[[Target], "Tensor"]  # the base's own weight of a target
Weighted = Sequence[tuple[Adapter, float]]


@dataclass(frozen=True)
class Module:
    """One module of the result."""

    target: Target
    adapter: Adapter
    rank: int  # of a LoRA, or of a LoKr's second factor; 0 for what has none
    ranks: int  # of the networks together, before
    error: float  # of the change, relative (Frobenius), against the exact sum; rounding to a dtype aside
    norm: float  # of the exact change (Frobenius)


@dataclass(frozen=True, eq=False)
class Change:
    """up · diag(scales) · down, and `rest` where a part of it has no factors. The module is no norm."""

    layer: Layer
    types: str  # of the adapters that it is made of: "loha, lora"
    down: "Tensor"  # [R, in·kernel], float32
    up: "Tensor"  # [out, R], float32
    scales: "Tensor"  # [R], float64: the strengths, apart, so that they do not round what cancels
    rest: "Tensor | None"  # [out, in·kernel], float32
    bias: "Tensor | None"  # [out], float32

    @classmethod
    def of(cls, layer: Layer, parts: Weighted, weights: Weights | None) -> Self:
        """The sum of these adapters, each times its strength. `weights` gives the base's own weights; raises NotSupported, naming the
        module, where a type needs them and they are not given."""
        shape = layer.shape
        shifts = [value * shift for adapter, value in parts if (shift := adapter.bias_delta(torch.zeros(shape[0]))) is not None]
        low, rest = [], []
        for adapter, value in parts:
            if (pair := adapter.factors(shape)) is not None:
                low.append((pair, value))
            elif not (isinstance(adapter, Full) and adapter.diff is None):
                rest.append((adapter, value))
        return cls(
            layer,
            ", ".join(sorted({adapter.name for adapter, _ in parts})),
            torch.cat([pair[0] for pair, _ in low]) if low else torch.zeros(0, math.prod(shape[1:])),
            torch.cat([pair[1] for pair, _ in low], dim=1) if low else torch.zeros(shape[0], 0),
            torch.tensor([value for pair, value in low for _ in pair[0]], dtype=torch.float64),
            _whole(layer, rest, weights) if rest else None,
            torch.stack(shifts).sum(0) if shifts else None,
        )

    @property
    def ranks(self) -> int:
        """Of the factors together."""
        return len(self.down)

    @property
    def nothing(self) -> bool:
        """Whether no network changes this weight; a bias may be left."""
        return self.rest is None and not self.ranks

    @property
    def thin(self) -> bool:
        """Whether factors say all of it, in fewer numbers than the matrix has."""
        return self.rest is None and self.ranks * (len(self.up) + self.down.shape[1]) < math.prod(self.layer.shape)

    @cached_property
    def scaled(self) -> "Tensor":
        """up · diag(scales), float64."""
        return self.up.double() * self.scales

    @cached_property
    def matrix(self) -> "Tensor":
        """[out, in·kernel], float32."""
        product = (self.scaled @ self.down.double()).float()
        return product if self.rest is None else self.rest + product

    @cached_property
    def norm(self) -> float:
        """Frobenius, of the weight's change."""
        return product_norm(self.down, self.scaled) if self.thin else float(self.matrix.double().norm())

    def spectrum(self, goal: Goal) -> Spectrum:
        """Its singular values, as far as the goal needs them."""
        few = self.rest is None and self.ranks < min(len(self.up), self.down.shape[1])
        return Spectrum.of_factors(self.down, self.up, self.scales) if few else spectrum_of(self.matrix, goal)

    def made(self, adapter: Adapter, *, rank: int = 0, error: float = 0.0, norm: float | None = None) -> Module:
        """The module that `adapter` makes of this change."""
        return Module(self.layer.target, adapter, rank, self.ranks, error, self.norm if norm is None else norm)


def _whole(layer: Layer, parts: Weighted, weights: Weights | None) -> "Tensor":
    """[out, in·kernel], the sum of changes that have no factors."""
    total = torch.zeros(layer.shape)
    for adapter, value in parts:
        total.add_(delta_of(layer, adapter, weights), alpha=value)
    return total.flatten(1)


def delta_of(layer: Layer, adapter: Adapter, weights: Weights | None) -> "Tensor":
    """The adapter's whole change of the layer's weight, its shape; raises NotSupported where it needs weights and there are none."""
    if not adapter.reads_weight:
        return adapter.delta(torch.zeros(layer.shape))
    if weights is None:
        raise NotSupported(
            f"{layer.target}: the change of {adapter.name} depends on the base's own weights; give the base itself, a folder or a "
            "checkpoint",
            fields=("base",),
        )
    return adapter.delta(weights(layer.target).to("cpu", torch.float32).reshape(layer.shape))
