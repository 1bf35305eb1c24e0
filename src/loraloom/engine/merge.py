"""Merge mode: W_live = W + Σ s·delta(W), and W back afterwards, bit for bit.

Every delta is computed from the untouched weight, so the order of networks does not matter. The base is kept as a copy of
each touched tensor and copied back: subtracting what was added would leave rounding behind.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.errors import EngineError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

Weighted = Sequence[tuple[Adapter, float]]


class Merged:
    """The weights that were changed, each with the bits that were there before."""

    def __init__(self) -> None:
        self._kept: list[tuple[Parameter, Tensor]] = []

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for _, kept in self._kept)

    def add(self, layer: "Module", adapters: Weighted) -> None:
        """Add the weighted deltas to the layer's weight and bias, in place: storage and object stay the same."""
        with torch.no_grad():
            weight: Parameter = layer.weight  # type: ignore[assignment]
            change = sum(strength * adapter.delta(weight) for adapter, strength in adapters)
            self._change(weight, change)
            bias: Parameter | None = getattr(layer, "bias", None)
            shifts = [] if bias is None else [s * shift for adapter, s in adapters if (shift := adapter.bias_delta(bias)) is not None]
            if bias is not None and shifts:
                self._change(bias, sum(shifts))

    def _change(self, parameter: "Parameter", change: "Tensor | int") -> None:
        self._kept.append((parameter, parameter.detach().clone()))
        parameter.copy_(parameter.float() + change)  # float32 sum, one rounding to the weight's dtype

    def restore(self) -> None:
        """Every weight back as it was; raises EngineError, after restoring, if the model was cast while it was changed."""
        cast = []
        with torch.no_grad():
            while self._kept:
                parameter, kept = self._kept.pop()
                if parameter.dtype == kept.dtype:
                    parameter.copy_(kept)
                else:
                    cast.append(f"{kept.dtype} to {parameter.dtype}")
                    parameter.data = kept.to(parameter.device)
        if cast:
            raise EngineError(
                f"the model was cast ({cast[0]}) while networks were merged; the weights are restored. Cast outside of `attached`"
            )
