"""Merge mode: W_live = W + Σ s·delta(W), and W back afterwards, bit for bit.

Every sum starts at the untouched weight, so the order of networks does not matter. Afterwards the base is written back from
where it is kept (`keep.py`): subtracting what was added would leave rounding behind.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.bases import Target
from loraloom.engine.keep import Checkpoint, Checkpoints, Kept
from loraloom.engine.live import weight_of
from loraloom.errors import EngineError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Thin = tuple["Tensor", "Tensor", float]  # down [r, in·kernel], up [out, r], factor
_BLOCK = 2**19  # elements that are widened to float32 at once: 2 MB, and the cache still holds them
_LINE = 64  # bytes of a cache line


class Merged:
    """The weights that were changed, each with what brings its bits back."""

    def __init__(self, components: "Mapping[str, Module]", checkpoints: Checkpoints) -> None:
        self._components = components
        self._checkpoints = checkpoints
        self._found: dict[str, Checkpoint | None] = {}  # looked for once in an attach
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
        thin: list[Thin] = []
        dense = []
        for adapter, strength in adapters:
            factors = adapter.thin(tuple(weight.shape))
            if factors is None:
                dense.append(strength * adapter.delta(weight))  # reads the base: before anything is added
            else:
                down, up = (tensor.to(weight.device, torch.float32) for tensor in factors[:2])
                thin.append((down, up, factors[2] * strength))
        self._kept.append((layer, "weight", self._keep(target, "weight", weight)))
        added = torch.stack(dense).sum(0) if dense else None
        if thin:
            _add_product(weight, *_joined(thin), added)
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
        if component not in self._found:
            self._found[component] = self._checkpoints.of(component, self._components[component])
        checkpoint = self._found[component]
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
        if lost is not None:
            raise lost


def _joined(thin: "Sequence[Thin]") -> "Thin":
    """One down, up and factor with the same sum of products."""
    if len(thin) == 1:
        return thin[0]
    return torch.cat([down for down, _, _ in thin]), torch.cat([up * factor for _, up, factor in thin], dim=1), 1.0


def _add_product(weight: "Tensor", down: "Tensor", up: "Tensor", factor: float, added: "Tensor | None") -> None:
    """weight += factor · up @ down (+ added), one rounding to the weight's dtype, no temporary larger than a block."""
    if weight.dtype == torch.float32 and weight.is_contiguous() and added is None:
        _add_in_place(weight.view(len(weight), -1), down, up, factor)
        return
    rows = max(1, _BLOCK // weight[0].numel())
    wide = torch.empty(rows, weight[0].numel(), dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)
    up, down = up.to(wide.dtype), down.to(wide.dtype)
    for start in range(0, len(weight), rows):
        block = weight[start : start + rows]
        total = wide[: len(block)]
        total.view(block.shape).copy_(block)
        total.addmm_(up[start : start + rows], down, alpha=factor)
        if added is not None:
            total.view(block.shape).add_(added[start : start + rows])
        block.copy_(total.view(block.shape))


def _add_in_place(weight: "Tensor", down: "Tensor", up: "Tensor", factor: float) -> None:
    """weight += factor · up @ down for a matrix in float32.

    addmm takes 2.2 to 3 times as long (MKL, one core) on a matrix that does not begin at a cache line, and a weight that is mapped
    from a file seldom does: the columns before the first line go by themselves.
    """
    before = -weight.data_ptr() % _LINE // weight.element_size()
    for columns in (slice(0, before), slice(before, None)):
        part = weight[:, columns]
        if part.numel():
            part.addmm_(up, down[:, columns].contiguous(), alpha=factor)
