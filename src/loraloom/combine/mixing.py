"""A stack of networks as one: for each module the weighted sum of its changes, exact or of a chosen rank.

The sum is formed from the types' own factors, never from full matrices where that can be avoided. What depends on the base's
weights needs them; a type without factors becomes a whole change (exact) or is factored from it (of a rank).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters import MAX_RANK, Adapter, Full, LoRA, Norm
from loraloom.bases import Base, Layer, Target
from loraloom.combine.goal import Goal
from loraloom.combine.spectrum import Spectrum, product_norm
from loraloom.errors import NotSupported
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile, Stack
from loraloom.strength import Strength

if TYPE_CHECKING:
    from torch import Tensor

Weights = Callable[[Target], "Tensor"]  # the base's own weight of a target
Weighted = Sequence[tuple[Adapter, float]]


@dataclass(frozen=True)
class Module:
    """One module of the result."""

    target: Target
    adapter: Adapter
    rank: int  # of a LoRA; 0 for what has none
    ranks: int  # of the networks together, before
    error: float  # of the change, relative (Frobenius), against the exact sum; rounding to a dtype aside
    norm: float  # of the exact change (Frobenius)


def modules(stack: Stack, base: Base, goal: Goal, weights: Weights | None, components: Iterable[str] | None = None) -> Iterator[Module]:
    """The modules of the mix in the base's order, one at a time; those that come to nothing are left out.

    Raises NotSupported for strengths that change by step, and, naming the module, for a type that needs the base where `weights` is
    None.
    """
    wanted = frozenset(base.components if components is None else components)
    for layer in base.layers:
        if layer.target.component not in wanted:
            continue
        parts = [
            (_cut(file.adapters[layer.target], strength), value)
            for file, strength in stack
            if layer.target in file.adapters and (value := _steady(file, strength, layer))
        ]
        if parts and (module := _module(layer, parts, goal, weights)) is not None:
            yield module


def _cut(adapter: Adapter, strength: Strength) -> Adapter:
    return adapter if strength.dyn is None else adapter.cut(strength.dyn) or adapter


def _steady(file: LoraFile, strength: Strength, layer: Layer) -> float:
    if not strength.constant_at(layer.place):
        raise NotSupported(f"{file.name}: a file has one strength for all steps, and this one changes; give a number, or flatten it")
    return strength.at(layer.place, 1, 1)


def _module(layer: Layer, parts: Weighted, goal: Goal, weights: Weights | None) -> Module | None:
    target, shape = layer.target, layer.shape
    shifts = [value * shift for adapter, value in parts if (shift := adapter.bias_delta(torch.zeros(shape[0]))) is not None]
    bias = torch.stack(shifts).sum(0) if shifts else None
    if layer.kind == "norm":
        deltas = [value * adapter.delta(torch.zeros(shape)) for adapter, value in parts]
        total = torch.stack(deltas).sum(0)
        return Module(target, Norm(weight=total, shift=bias), 0, 0, 0.0, float(total.norm()))
    low = [(pair, value) for adapter, value in parts if (pair := adapter.factors(shape)) is not None]
    rest = [(adapter, value) for adapter, value in parts if adapter.factors(shape) is None]
    changing = [(adapter, value) for adapter, value in rest if not (isinstance(adapter, Full) and adapter.diff is None)]
    if not low and not changing:
        return None if bias is None else Module(target, Full(bias=bias), 0, 0, 0.0, 0.0)
    down = torch.cat([pair[0] for pair, _ in low]) if low else torch.zeros(0, math.prod(shape[1:]))
    up = torch.cat([pair[1] * value for pair, value in low], dim=1) if low else torch.zeros(shape[0], 0)
    ranks = len(down)
    if goal.exact and not changing and ranks <= MAX_RANK and ranks * (shape[0] + down.shape[1]) < math.prod(shape):
        return Module(target, _lora(layer, down, up, bias), ranks, ranks, 0.0, product_norm(down, up))
    few = ranks <= min(len(up), down.shape[1])
    if goal.exact or changing or not few:
        whole = _whole(layer, changing, weights) + up @ down
        if goal.exact:
            return Module(target, Full(diff=whole.reshape(shape), bias=bias), 0, ranks, 0.0, float(whole.norm()))
        spectrum = Spectrum.of_matrix(whole)
    else:
        spectrum = Spectrum.of_factors(down, up)
    rank = goal.rank_of(spectrum)
    if rank == 0 and bias is None and spectrum.norm == 0:
        return None
    kept_down, kept_up = spectrum.factors(rank)
    return Module(target, _lora(layer, kept_down, kept_up, bias), len(kept_down), ranks, spectrum.error_of(rank), spectrum.norm)


def _whole(layer: Layer, parts: Weighted, weights: Weights | None) -> "Tensor":
    """[out, in·kernel], the sum of changes that have no factors."""
    total = torch.zeros(layer.shape)
    for adapter, value in parts:
        if adapter.reads_weight and weights is None:
            raise NotSupported(f"{layer.target}: the change of {adapter.name} depends on the base's own weights; name the base with --base")
        weight = weights(layer.target) if adapter.reads_weight and weights is not None else torch.zeros(layer.shape)
        total.add_(adapter.delta(weight.float().reshape(layer.shape)), alpha=value)
    return total.flatten(1)


def _lora(layer: Layer, down: "Tensor", up: "Tensor", bias: "Tensor | None") -> LoRA:
    """alpha is the rank: the factors hold all of the scale. One rank of zeros where nothing is left but a bias."""
    if not len(down):
        down, up = torch.zeros(1, down.shape[1]), torch.zeros(len(up), 1)
    kernel = layer.shape[2:]
    return LoRA(
        down=down.reshape(len(down), layer.shape[1], *kernel).contiguous(),
        up=up.reshape(layer.shape[0], len(down), *[1] * len(kernel)).contiguous(),
        alpha=torch.tensor(float(len(down))),
        bias=bias,
    )
