"""What rotations share: blocks on the diagonal of R, skew by construction, applied to W's rows or to what a layer gives.

A rotation is kept as R − I: nothing is lost to the ones on its diagonal, and blocks of zeros change exactly nothing.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from loraloom.adapters.base import MAX_RANK, Adapter, NotExact, Shape, key
from loraloom.adapters.like import along, without_bias
from loraloom.errors import BadTensor, LimitExceeded
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MAX_BLOCKS = 65_536  # of one rotation, from a stranger; today's widest layers in blocks of 2×2 have a third as many
_LEAST = 32  # rows of a block from which a batch of small products runs at the speed of larger ones


@dataclass(frozen=True, eq=False)
class RowRotation(Adapter):
    """A type with delta = rescale ∘ R W − W: R turns the output rows. As a branch it turns y without its bias; x is not needed."""

    reads_weight: ClassVar[bool] = True
    undecayed: ClassVar[frozenset[str]] = frozenset({"rescale"})
    blocks_suffix: ClassVar[str]

    rescale: "Tensor | None" = key("rescale", optional=True)  # [out, 1, ...], of the turned rows
    worked_out: "Tensor | None" = field(default=None, kw_only=True)  # `turns`, where they were worked out for one weight

    @abstractmethod
    def turns(self) -> "Tensor":
        """R − I of every block, float32: [..., blocks, size, size]."""

    @classmethod
    def change(cls, turns: "Tensor", rows: "Tensor") -> "Tensor":
        """(R − I) rows, for rows [any, out, any]."""
        return product(turns, rows)

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        blocks = shapes[cls.blocks_suffix]
        check_blocks(cls.name, cls.blocks_suffix, blocks)
        out = blocks[-3] * blocks[-1]
        rescale = shapes.get("rescale", (out, 1))
        if not rescale or rescale[0] != out or math.prod(rescale) != out:
            raise BadTensor(f"{cls.name}: rescale {list(rescale)} is not one number for each of the {out} rows that {list(blocks)} turn")
        if shapes.get("diff_b", (out,)) != (out,):
            raise BadTensor(f"{cls.name}: diff_b {list(shapes['diff_b'])} is not the bias of the {out} rows that {list(blocks)} turn")

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        blocks = shapes[cls.blocks_suffix]
        return (blocks[-3] * blocks[-1], *target[1:])

    def delta(self, weight: "Tensor") -> "Tensor":
        rows = weight.float().reshape(1, len(weight), -1)
        return self._rescaled(self.turns().to(weight.device), rows).reshape(weight.shape)

    def bound(self, weight: "Tensor") -> Adapter:
        turns = self.turns()
        return replace(self, worked_out=(joined(turns) if weight.ndim == 2 else turns).to(weight.device, weight.dtype))

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        turns = self.turns() if self.worked_out is None else self.worked_out
        own = without_bias(layer, y)
        rows = own.flatten(2) if isinstance(layer, torch.nn.Conv2d) else own.reshape(-1, own.shape[-1], 1)
        added = self._rescaled(turns.to(y.device, y.dtype), rows).reshape(y.shape)
        return added if self.bias is None else added + along(self.bias.to(y.device, y.dtype), layer)

    def _cut(self, start: int, stop: int, blocks: "Tensor") -> Self:
        """The adapter of rows start..stop, out of the blocks of all; raises NotExact where a block would be cut."""
        size = blocks.shape[-1]
        if start % size or stop % size:
            raise NotExact(f"{self.name}: rows {start} to {stop} cut through blocks of {size}")
        rescale, bias = (None if tensor is None else tensor[start:stop] for tensor in (self.rescale, self.bias))
        return replace(self, **{"blocks": blocks[start // size : stop // size], "rescale": rescale, "bias": bias, "worked_out": None})

    @property
    def nbytes(self) -> int:
        return super().nbytes + (0 if self.worked_out is None else self.worked_out.nbytes)

    def _rescaled(self, turns: "Tensor", rows: "Tensor") -> "Tensor":
        change = self.change(turns, rows)
        if self.rescale is None:
            return change
        gain = self.rescale.to(rows.device).float().reshape(-1, 1)
        return gain.to(rows.dtype) * change + (gain - 1).to(rows.dtype) * rows


def check_blocks(name: str, suffix: str, shape: Shape) -> None:
    """Raises BadTensor for blocks that are not square or turn nothing, LimitExceeded for more or larger ones than are read."""
    if len(shape) < 3 or shape[-1] != shape[-2] or 0 in shape:
        raise BadTensor(f"{name}: {suffix} {list(shape)} are no square blocks")
    check_limits(name, suffix, shape[-3], shape[-1])


def check_limits(name: str, suffix: str, blocks: int, size: int) -> None:
    if size > MAX_RANK:
        raise LimitExceeded(f"{name}: {suffix} has blocks of {size:,} rows, the limit is {MAX_RANK:,}")
    if blocks > MAX_BLOCKS:
        raise LimitExceeded(f"{name}: {suffix} has {blocks:,} blocks, the limit is {MAX_BLOCKS:,}")


def skew(blocks: "Tensor", constraint: float) -> "Tensor":
    """Q = X − Xᵀ, float32, all blocks together no longer than `constraint` where that is above 0.

    No norm of float32 is longer than the largest float32, so a constraint beyond that is none.
    """
    wide = blocks.float()
    q = wide - wide.mT
    if not 0 < constraint <= torch.finfo(torch.float32).max:
        return q
    norm: Tensor = torch.linalg.vector_norm(q)  # torch gives it a gradient of 0 at 0, not NaN
    return q * (constraint / norm.clamp_min(constraint))


def cayley(q: "Tensor") -> "Tensor":
    """R − I of R = (I + Q)(I − Q)⁻¹, which is 2 (I − Q)⁻¹ Q; I − Q has an inverse for every skew Q."""
    identity = torch.eye(q.shape[-1], device=q.device, dtype=q.dtype)
    turns: Tensor = torch.linalg.solve(identity - q, 2 * q)
    return turns


def product(blocks: "Tensor", rows: "Tensor") -> "Tensor":
    """The block-diagonal matrix of `blocks` [k, n, n] times rows [any, k·n, any]."""
    parts = rows.reshape(len(rows), *blocks.shape[:2], rows.shape[2])
    turned = torch.einsum("kij,akj->aki", blocks, parts.squeeze(3)) if rows.shape[2] == 1 else blocks @ parts
    return turned.reshape(rows.shape)


def joined(blocks: "Tensor") -> "Tensor":
    """The same matrix in fewer blocks, of _LEAST rows at least. 320 outputs of a Linear in blocks of 10 take 144 ms for 8,192
    tokens, in blocks of 40 26 ms (MKL, one core); a convolution's rows are long enough as they are."""
    count, size, _ = blocks.shape
    each = next(each for each in divisors(count) if each * size >= _LEAST or each == count)
    places = torch.eye(each, device=blocks.device, dtype=torch.float32)
    parts = torch.einsum("gij,gh->gihj", blocks.reshape(-1, size, size), places.repeat(count // each, 1))
    return parts.reshape(count // each, each * size, each * size)


def divisors(number: int) -> Sequence[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


def fitting_size(out: int, rank: int) -> int:
    """LyCORIS' block size: the smaller of rank and out/rank where rank divides out, else the largest divisor up to rank and √out."""
    if out % rank == 0:
        return min(rank, out // rank)
    return max(each for each in divisors(out) if each <= rank and each * each <= out)
