"""Merge mode: W_live = W + Σ s·delta(W), and W back afterwards, bit for bit.

Every sum starts at the untouched weight, so the order of networks does not matter. Afterwards the base is written back from
where it is kept (`keep.py`): subtracting what was added would leave rounding behind.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter, NotExact
from loraloom.bases import Target
from loraloom.engine.keep import Checkpoint, Checkpoints, Kept, Room
from loraloom.engine.live import mark_lost, weight_of
from loraloom.engine.surroundings import writing
from loraloom.errors import BaseLost
from loraloom.lazy import torch
from loraloom.undo import Undo

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Thin = tuple["Tensor", "Tensor", float]  # down [r, in·kernel], up [out, r], factor
_BLOCK = 2**19  # elements that are widened to float32 at once: 2 MB, and the cache still holds them
_GPU_BLOCK = 2**24  # 64 MB: a kernel's start costs more than its memory
_LINE = 64  # bytes of a cache line


class Merged:
    """The weights that were changed. Each comes back as it was, on the device and in the dtype that the model has then."""

    def __init__(self, components: "Mapping[str, Module]", checkpoints: Checkpoints, undo: Undo) -> None:
        self._components, self._undo = components, undo
        self._checkpoints = checkpoints
        self._found: dict[str, Checkpoint | None] = {}  # looked for once in an attach
        self._room = Room()
        self.nbytes = 0  # of copies

    def add(self, target: Target, layer: "Module", adapters: Sequence[tuple[Adapter, float]]) -> None:
        """Add the weighted deltas to the layer's weight and bias, in place: storage and object stay the same."""
        weight = weight_of(layer)
        bias = torch.zeros(len(weight), dtype=torch.float32, device=weight.device)
        with writing(weight):
            self._change_weight(target, layer, adapters)
            shifts = [strength * shift for adapter, strength in adapters if (shift := adapter.bias_delta(bias)) is not None]
            if shifts:
                self._change_bias(target, layer, torch.stack(shifts).sum(0))

    def _change_weight(self, target: Target, layer: "Module", adapters: Sequence[tuple[Adapter, float]]) -> None:
        weight = weight_of(layer).detach()
        thin: list[Thin] = []
        others: list[tuple[Adapter, float]] = []
        for adapter, strength in adapters:
            factors = adapter.thin(tuple(weight.shape)) if weight.ndim > 1 else None
            if factors is None:
                others.append((adapter.map(lambda tensor: tensor.to(weight.device)), strength))
            else:
                down, up = (tensor.to(weight.device, torch.float32) for tensor in factors[:2])
                thin.append((down, up, factors[2] * strength))
        change = _Change(weight, thin, others)
        self._keep(target, "weight", layer)
        change.apply()

    def _change_bias(self, target: Target, layer: "Module", shift: "Tensor") -> None:
        """A layer without bias has one meanwhile."""
        bias: Tensor | None = layer.bias  # type: ignore[assignment]
        self._keep(target, "bias", layer)
        if bias is None:
            layer.bias = torch.nn.Parameter(shift.to(weight_of(layer).dtype), requires_grad=False)
        else:
            bias.copy_(bias + shift)

    def _keep(self, target: Target, name: str, layer: "Module") -> None:
        """What brings the layer's parameter back is in place before it is changed."""
        parameter = getattr(layer, name)
        kept = None if parameter is None else self._kept(target, name, parameter.detach())
        self.nbytes += 0 if kept is None else kept.nbytes
        self._undo.before(partial(_restore, layer, name, kept, self._components[target.component]))

    def _kept(self, target: Target, name: str, parameter: "Tensor") -> Kept:
        if (copied := self._room.copy(parameter)) is not None:
            return copied
        component = target.component
        if component not in self._found:
            self._found[component] = self._checkpoints.of(component, self._components[component])
        checkpoint = self._found[component]
        return Kept(parameter.detach().clone()) if checkpoint is None else checkpoint.keep(f"{target.module}.{name}", parameter)


def _restore(layer: "Module", name: str, kept: Kept | None, component: "Module") -> None:
    """`kept` None: there was no such parameter. Raises BaseLost, and `component` is not used any more, if it cannot be brought back."""
    if kept is None:
        setattr(layer, name, None)
        return
    parameter = getattr(layer, name)
    try:
        with writing(parameter):
            kept.restore(parameter)
    except BaseLost as error:
        mark_lost(component, error)
        raise


class _Change:
    """What is added to one weight. All of it is worked out from the untouched weight, with one rounding to its dtype."""

    def __init__(self, weight: "Tensor", thin: "Sequence[Thin]", others: Sequence[tuple[Adapter, float]]) -> None:
        self._weight, self._thin = weight, _joined(thin) if thin else None
        self._blocks = _blocks(weight)
        self._by_rows: list[tuple[list[Adapter], float]] = []  # the part of each block
        self._whole: list[tuple[Tensor, float]] = []
        for adapter, strength in others:
            try:
                parts = [adapter.rows(rows.start, rows.stop) for rows in self._blocks]
            except NotExact:  # its rows depend on one another: the whole change at once, before anything is added
                self._whole.append((adapter.delta(weight), strength))
            else:
                self._by_rows.append((parts, strength))

    def apply(self) -> None:
        """No temporary is larger than a block, but for types of which no rows can be cut out."""
        weight, exact = self._weight, self._weight.dtype == torch.float32
        if exact and self._thin and not self._by_rows and not self._whole and weight.is_contiguous():
            _add_in_place(weight.view(len(weight), -1), *self._thin)
        elif exact and len(self._by_rows) == 1 and not self._thin and not self._whole:
            ((parts, strength),) = self._by_rows
            for rows, part in zip(self._blocks, parts, strict=True):
                weight[rows].add_(part.delta(weight[rows]), alpha=strength)
        else:
            self._add_blocks()

    def _add_blocks(self) -> None:
        weight = self._weight
        wide = torch.promote_types(weight.dtype, torch.float32)
        most = max(rows.stop - rows.start for rows in self._blocks)
        room = torch.empty(most, *weight.shape[1:], dtype=wide, device=weight.device)
        for index, rows in enumerate(self._blocks):
            block = weight[rows]
            total = room[: len(block)].copy_(block)
            for parts, strength in self._by_rows:
                total.add_(parts[index].delta(block), alpha=strength)
            for delta, strength in self._whole:
                total.add_(delta[rows], alpha=strength)
            if self._thin:
                down, up, factor = self._thin
                total.view(len(total), -1).addmm_(up[rows].to(wide), down.to(wide), alpha=factor)
            block.copy_(total)


def _blocks(weight: "Tensor") -> list[slice]:
    """Rows that are widened to float32 at once; a multiple of 64 where they are many, so that types of small blocks are not cut."""
    step = max(1, (_BLOCK if weight.device.type == "cpu" else _GPU_BLOCK) // max(1, weight[0].numel()))
    step = step if step < 64 else step - step % 64
    return [slice(start, min(start + step, len(weight))) for start in range(0, len(weight), step)]


def _joined(thin: "Sequence[Thin]") -> "Thin":
    """One down, up and factor with the same sum of products."""
    if len(thin) == 1:
        return thin[0]
    return torch.cat([down for down, _, _ in thin]), torch.cat([up * factor for _, up, factor in thin], dim=1), 1.0


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
