"""A product of butterfly stages, R_m … R_1, times rows, as R − I: small turns keep their digits.

Stage i turns pairs of half blocks whose numbers differ in bit i, so that a run of k stages is one rotation whose blocks join 2^k half
blocks: fewer and larger products. For 1280 rows of a 3×3 convolution in blocks of 10, runs and blocks of columns that the cache
holds take 0.12 s instead of 1.66 s (MKL, one core).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters.rotation import product
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_WIDEST = 80  # rows of a run's blocks; wider ones cost more than the passes that they save
_CACHED = 2**17  # numbers of a block of columns: 0.5 MB


@dataclass(frozen=True, eq=False)
class Run:
    """Neighbouring stages as one rotation."""

    first: int  # stage
    joins: int  # half blocks
    blocks: "Tensor"  # R − I, [blocks, n, n] for n rows of `joins` half blocks

    def change(self, rows: "Tensor") -> "Tensor":
        """(R − I) rows, for rows [any, out, any]."""
        count, size, _ = self.blocks.shape
        met = _gathered(rows, self.joins, 2**self.first, size // self.joins).reshape(len(rows), count, size, -1)
        turned = self.blocks @ met
        return _gathered(turned.reshape(rows.shape), 2**self.first, self.joins, size // self.joins).reshape(rows.shape)


def _gathered(rows: "Tensor", outer: int, inner: int, half: int) -> "Tensor":
    """Rows [any, out, any] as [any, rest, inner, outer, half, any]: what was apart by `inner` half blocks stands together."""
    return rows.reshape(len(rows), -1, outer, inner, half, rows.shape[2]).transpose(2, 3)


def runs(turns: "Tensor", dtype: "torch.dtype") -> Sequence[Run]:
    """All stages, worked out in float32; `turns` [stages, blocks, size, size] is R − I of every block of each."""
    stages, count, size, _ = turns.shape
    half, each = size // 2, 1
    while 2 ** (each + 1) * half <= _WIDEST:
        each += 1
    found = []
    for first in range(0, stages, each):
        part = turns[first : first + each].float()
        joins = 2 ** len(part)
        places = torch.eye(joins * half, device=turns.device, dtype=torch.float32).reshape(1, joins, 1, half, -1)
        alone = places.expand(2 * count // joins >> first, joins, 2**first, half, joins * half).reshape(1, count * size, -1)
        changed = stage_by_stage(part, alone, first)
        blocks = _gathered(changed, joins, 2**first, half).reshape(-1, joins * half, joins * half)
        found.append(Run(first, joins, blocks.to(dtype)))
    return found


def stage_by_stage(turns: "Tensor", rows: "Tensor", first: int = 0) -> "Tensor":
    """(R − I) rows of the stages from `first` on, for rows [any, out, any]."""
    total = torch.zeros_like(rows)
    for stage, blocks in enumerate(turns, first):
        apart = 2**stage * blocks.shape[-1] // 2
        met = rows.reshape(len(rows), -1, 2, apart, rows.shape[2]).transpose(2, 3).reshape(rows.shape)
        changed = product(blocks, met).reshape(len(rows), -1, apart, 2, rows.shape[2]).transpose(2, 3).reshape(rows.shape)
        total, rows = total + changed, rows + changed
    return total


def in_runs(turns: "Tensor", rows: "Tensor") -> "Tensor":
    """What `stage_by_stage` gives, sooner where rows have many columns."""
    joined = runs(turns, rows.dtype)
    most = max(32, _CACHED // rows.shape[1]) if rows.device.type == "cpu" else rows.shape[2]
    return torch.cat([_through(joined, part) for part in torch.split(rows, most, dim=2)], dim=2)


def _through(joined: Sequence[Run], rows: "Tensor") -> "Tensor":
    total = torch.zeros_like(rows)
    for run in joined:
        changed = run.change(rows)
        total, rows = total + changed, rows + changed
    return total
