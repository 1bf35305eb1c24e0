"""How the error of a combination falls as its ranks grow, before anything is written: one factorisation of each module tells all.

A combination at error 0 has its singular vectors as factors, each pair of the length of its singular value, so that the error at
every smaller rank follows from lengths alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters import MAX_RANK, LoRA
from loraloom.bases import Base
from loraloom.combine.change import Module, Weights
from loraloom.combine.combining import OnModule, summed
from loraloom.combine.flatten import flatten
from loraloom.combine.goal import Goal
from loraloom.lazy import torch
from loraloom.lorafile import Stack

if TYPE_CHECKING:
    from torch import Tensor

_RANKS = (*range(1, 64), *range(64, 256, 8), *range(256, MAX_RANK + 1, 32))
_BOUNDS = tuple(float(f"{digit}e-{power}") for power in (1, 2, 3, 4) for digit in (7, 5, 3, 2, 1.5, 1))


@dataclass(frozen=True)
class Point:
    """One size that the result may have. Errors are relative to the mix (Frobenius), rounding to a dtype aside."""

    least: int  # the smallest rank of a module
    most: int  # the largest
    error: float  # of all modules together
    worst: float  # of the worst module
    values: int  # in the file's tensors: 2 or 4 bytes each


@dataclass(frozen=True)
class Bound:
    """The smallest rank for each module whose error is at most `error`."""

    error: float
    point: Point


@dataclass(frozen=True)
class Curve:
    """What a mix would become at every rank and at every bound on the error."""

    base: str  # the family's title
    modules: int
    components: tuple[str, ...]  # that the mix changes
    exact: Point  # where no type is asked for
    exact_lora: Point | None  # of LoRAs alone; None where a module has no exact one
    full: Point  # of whole changes alone
    ranks: tuple[Point, ...]  # one rank for every module, ascending, up to the one that leaves nothing out
    bounds: tuple[Bound, ...]  # descending


def curve(
    stack: Stack,
    base: Base,
    *,
    weights: Weights | None = None,
    components: Iterable[str] | None = None,
    steps: int | None = None,
    on_module: OnModule | None = None,
) -> Curve:
    """The curve of the stack; with `steps` that of its mean over a run of so many. Raises as `combine` does, but for a mix in which
    nothing is left: its curve has no modules."""
    stack = flatten(stack, steps).stack if steps else stack
    held = [_Held.of(module) for module in summed(stack, base, Goal(error=0.0), weights, components, on_module)]
    table = _Table.of(held)
    most = max((one.rank for one in held), default=0)
    names = tuple(dict.fromkeys(one.component for one in held))
    exact = _lossless([(one.exact_rank, one.exact_values) for one in held])
    factors = [one.factors for one in held if one.factors is not None]
    exact_lora = _lossless(factors) if len(factors) == len(held) else None
    full = _lossless([(0, one.whole_values) for one in held])
    wanted = [*(rank for rank in _RANKS if rank < most), *([most] if most else [])]
    ranks = tuple(table.point([min(rank, one.rank) for one in held]) for rank in wanted)
    bounds = tuple(Bound(error, table.point(table.within(error))) for error in _BOUNDS)
    return Curve(base.title, len(held), names, exact, exact_lora, full, ranks, bounds)


def _lossless(modules: Sequence[tuple[int, int]]) -> Point:
    """Of modules with these ranks, 0 for a whole change, and values."""
    ranks = [rank for rank, _ in modules if rank]
    return Point(min(ranks, default=0), max(ranks, default=0), 0.0, 0.0, sum(values for _, values in modules))


@dataclass(frozen=True)
class _Held:
    """What is kept of one module."""

    component: str
    lengths: "Tensor"  # singular values, float64
    norm: float
    rank: int
    per_rank: int  # values that a rank takes
    fixed: int  # values of a bias, or of what has no rank
    whole_values: int  # of the whole change
    factors: tuple[int, int] | None  # rank and values of the exact LoRA, a rank of 0 for what has none; None where there is no such LoRA
    exact_rank: int  # of what is thinner, 0 for a whole change
    exact_values: int

    @classmethod
    def of(cls, module: Module) -> "_Held":
        adapter, component = module.adapter, module.target.component
        if not isinstance(adapter, LoRA):
            fixed = sum(tensor.numel() for tensor in adapter.tensors().values())
            return cls(component, torch.zeros(0, dtype=torch.float64), module.norm, 0, 0, fixed, fixed, (0, fixed), 0, fixed)
        down, up = adapter.down.flatten(1).double(), adapter.up.flatten(1).double()
        per_rank = down.shape[1] + len(up)
        fixed = 0 if adapter.bias is None else len(up)
        whole = len(up) * down.shape[1] + fixed
        # A rank above that of all factors together comes from a change without factors, which an exact file has whole.
        possible = module.rank <= module.ranks <= MAX_RANK
        factors = (module.ranks, module.ranks * per_rank + fixed) if possible else None
        rank, values = factors if factors and factors[1] < whole else (0, whole)
        lengths = down.norm(dim=1) * up.norm(dim=0)
        return cls(component, lengths[: module.rank], module.norm, module.rank, per_rank, fixed, whole, factors, rank, values)


@dataclass(frozen=True)
class _Table:
    """All modules together: what each leaves out at every rank, squared."""

    held: "list[_Held]"
    tails: "Tensor"  # [modules, ranks + 1], float64
    norms: "Tensor"  # [modules], squared

    @classmethod
    def of(cls, held: "list[_Held]") -> "_Table":
        most = max((one.rank for one in held), default=0)
        squares = torch.zeros(len(held), most + 1, dtype=torch.float64)
        for row, one in zip(squares, held, strict=True):
            row[: one.rank] = one.lengths.square()
        norms = torch.tensor([one.norm**2 for one in held], dtype=torch.float64)
        return cls(held, squares.flip(1).cumsum(1).flip(1), norms)

    def within(self, bound: float) -> list[int]:
        """The smallest rank of each module whose error is at most `bound`."""
        return [int(count) for count in (self.tails > bound**2 * self.norms[:, None]).sum(1)]

    def point(self, ranks: list[int]) -> Point:
        left = self.tails[torch.arange(len(ranks)), torch.tensor(ranks, dtype=torch.long)]
        whole = float(self.norms.sum())
        used = [rank for rank, one in zip(ranks, self.held, strict=True) if one.rank]
        return Point(
            min(used, default=0),
            max(used, default=0),
            math.sqrt(float(left.sum()) / whole) if whole else 0.0,
            math.sqrt(float((left / self.norms.clamp_min(1e-300)).max())) if len(ranks) else 0.0,
            sum(max(rank, 1) * one.per_rank + one.fixed if one.per_rank else one.fixed for rank, one in zip(ranks, self.held, strict=True)),
        )
