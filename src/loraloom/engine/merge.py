"""Merge mode: W_live = W + Σ s·delta(W), and W back afterwards, bit for bit.

Every sum starts at the untouched weight, so the order of networks does not matter. Afterwards the base is written back from
where it is kept (`keep.py`): subtracting what was added would leave rounding behind.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.bases import Target
from loraloom.engine.keep import Checkpoint, Kept
from loraloom.engine.live import weight_of
from loraloom.errors import EngineError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_BLOCK = 2**20  # elements that are widened to float32 at once: 4 MB, and the cache still holds them


class Merged:
    """The weights that were changed, each with what brings its bits back."""

    def __init__(self, components: "Mapping[str, Module]") -> None:
        self._components = components
        self._checkpoints: dict[str, Checkpoint | None] = {}
        self._kept: list[tuple[Module, str, Kept | None]] = []  # None: there was no such parameter

    @property
    def nbytes(self) -> int:
        return sum(kept.nbytes for _, _, kept in self._kept if kept is not None)

    def add(self, target: Target, layer: "Module", adapters: Sequence[tuple[Adapter, float]]) -> None:
        """Add the weighted deltas to the layer's weight and bias, in place: storage and object stay the same."""
        weight = weight_of(layer)
        bias = torch.zeros(len(weight), device=weight.device)
        with torch.no_grad():
            self._change_weight(target, layer, adapters)
            shifts = [strength * shift for adapter, strength in adapters if (shift := adapter.bias_delta(bias)) is not None]
            if shifts:
                self._change_bias(target, layer, torch.stack(shifts).sum(0))

    def _change_weight(self, target: Target, layer: "Module", adapters: Sequence[tuple[Adapter, float]]) -> None:
        weight = weight_of(layer).detach()
        downs, ups, dense = [], [], []
        for adapter, strength in adapters:
            pair = adapter.factors(tuple(weight.shape))
            if pair is None:
                dense.append(strength * adapter.delta(weight))  # reads the base: before anything is added
            else:
                downs.append(pair[0].to(weight.device))
                ups.append(pair[1].to(weight.device) * strength)
        self._kept.append((layer, "weight", self._keep(target, "weight", weight)))
        added = torch.stack(dense).sum(0) if dense else None
        if downs:
            _add_product(weight, torch.cat(ups, dim=1), torch.cat(downs), added)
        elif added is not None:
            weight.copy_(weight + added)

    def _change_bias(self, target: Target, layer: "Module", shift: "Tensor") -> None:
        """A layer without bias has one meanwhile."""
        bias: Tensor | None = layer.bias  # type: ignore[assignment]
        self._kept.append((layer, "bias", None if bias is None else self._keep(target, "bias", bias)))
        if bias is None:
            layer.bias = torch.nn.Parameter(shift.to(weight_of(layer).dtype), requires_grad=False)
        else:
            bias.copy_(bias + shift)

    def _keep(self, target: Target, name: str, parameter: "Tensor") -> Kept:
        component = target.component
        if component not in self._checkpoints:
            self._checkpoints[component] = Checkpoint.of(self._components[component])
        checkpoint = self._checkpoints[component]
        return Kept(parameter.detach().clone()) if checkpoint is None else checkpoint.keep(f"{target.module}.{name}", parameter)

    def restore(self) -> None:
        """Every weight back as it was, on the device and in the dtype that the model has now. One that cannot be brought back
        does not keep the others from it; its EngineError comes last."""
        lost: EngineError | None = None
        with torch.no_grad():
            while self._kept:
                layer, name, kept = self._kept.pop()
                try:
                    if kept is None:
                        setattr(layer, name, None)
                    else:
                        kept.restore(getattr(layer, name))
                except EngineError as error:
                    lost = error
        for checkpoint in self._checkpoints.values():
            if checkpoint is not None:
                checkpoint.close()
        if lost is not None:
            raise lost


def _add_product(weight: "Tensor", up: "Tensor", down: "Tensor", added: "Tensor | None") -> None:
    """weight += up @ down (+ added), one rounding to the weight's dtype, no temporary larger than a block."""
    if weight.dtype == torch.float32 and weight.is_contiguous() and added is None:
        weight.view(len(weight), -1).addmm_(up, down)
        return
    rows = max(1, _BLOCK // weight[0].numel())
    for start in range(0, len(weight), rows):
        block = weight[start : start + rows]
        total = (up[start : start + rows] @ down).view(block.shape)
        if added is not None:
            total += added[start : start + rows]
        block.copy_(block + total)
