"""Merge mode: W_live = W + Σ s·delta(W), and W back afterwards, bit for bit.

Every delta is computed from the untouched weight, so the order of networks does not matter. The base is kept as a copy of
each touched tensor and copied back: subtracting what was added would leave rounding behind.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.engine.live import weight_of
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Weighted = Sequence[tuple[Adapter, float]]


class Merged:
    """The weights that were changed, each with the bits that were there before."""

    def __init__(self) -> None:
        self._kept: list[tuple[Module, str, Tensor | None]] = []  # None: there was no such parameter

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for _, _, kept in self._kept if kept is not None)

    def add(self, layer: "Module", adapters: Weighted) -> None:
        """Add the weighted deltas to the layer's weight and bias, in place: storage and object stay the same."""
        weight = weight_of(layer)
        bias = torch.zeros(len(weight), device=weight.device)
        with torch.no_grad():
            self._change(layer, "weight", [strength * adapter.delta(weight) for adapter, strength in adapters])
            shifts = [strength * shift for adapter, strength in adapters if (shift := adapter.bias_delta(bias)) is not None]
            if shifts:
                self._change(layer, "bias", shifts)

    def _change(self, layer: "Module", name: str, changes: "list[Tensor]") -> None:
        """Sums are in float32 at least, with one rounding to the parameter's dtype. A layer without bias has one meanwhile."""
        parameter, total = getattr(layer, name), torch.stack(changes).sum(0)
        self._kept.append((layer, name, None if parameter is None else parameter.detach().clone()))
        if parameter is None:
            setattr(layer, name, torch.nn.Parameter(total.to(weight_of(layer).dtype), requires_grad=False))
        else:
            parameter.copy_(parameter + total)

    def restore(self) -> None:
        """Every weight back as it was, on the device and in the dtype that the model has now."""
        with torch.no_grad():
            while self._kept:
                layer, name, kept = self._kept.pop()
                if kept is None:
                    setattr(layer, name, None)
                else:
                    getattr(layer, name).copy_(kept)
