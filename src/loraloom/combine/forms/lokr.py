"""A change as a LoKr: kron(w1, w2), exact with w1 = 1, else by the nearest Kronecker product.

With the blocks of A [a·b, c·d] as rows of R(A) [a·c, b·d], ‖A − kron(w1, w2)‖ = ‖R(A) − vec(w1) vec(w2)ᵀ‖, so that the nearest product
is the first pair of singular vectors of R(A): Van Loan and Pitsianis 1993. w2 is then cut to a rank as any matrix is. Both are
projections: the squares of what they leave out add up.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters import LoKr, Shape
from loraloom.adapters.lokr import factorized
from loraloom.combine.change import Change, Module
from loraloom.combine.goal import Goal
from loraloom.combine.rangefinder import spectrum_of
from loraloom.combine.spectrum import Spectrum
from loraloom.errors import NotSupported
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_FACTORS = (2, 4, 8, 16, -1)  # what LyCORIS' `factor` is commonly set to; -1 is near the square root


@dataclass(frozen=True, eq=False)
class Product:
    """kron(first, up @ down), or kron(first, up) where `down` is None."""

    first: "Tensor"  # [a, c]
    down: "Tensor | None"  # [rank, d·kernel]
    up: "Tensor"  # [b, rank], or [b, d·kernel]
    error: float = 0.0

    @property
    def numbers(self) -> int:
        return self.first.numel() + self.up.numel() + (0 if self.down is None else self.down.numel())


def lokr(change: Change, goal: Goal) -> Module:
    """Exact: w1 is 1 and w2 the change, factored where that is thinner. A rank is that of w2, at most: the nearest product of those that
    `goal.factor` allows. With an error or an energy: the one of the fewest numbers that keeps it.

    Raises NotSupported for an embedding, and where a given factor cannot keep the error.
    """
    if change.layer.kind == "embedding":
        raise NotSupported(f"{change.layer.target}: an embedding cannot be written as lokr; lora and full can change one")
    one = torch.ones(1, 1)
    if goal.exact or not change.norm:
        factored = change.rest is None and _thin(change.ranks, *change.layer.shape)
        return _made(change, Product(one, change.down, change.scaled.float()) if factored else Product(one, None, change.matrix))
    found = list(_products(change, goal))
    if goal.most is None:
        return _made(change, min(found, key=lambda product: (product.error, product.numbers)))
    kept = [product for product in found if product.error <= goal.most]
    if not kept and goal.max_rank is None:
        best = min(product.error for product in found)
        raise NotSupported(
            f"{change.layer.target}: the nearest lokr of factor {goal.factor} leaves out {best:.3g} of the change, the limit is "
            f"{goal.most:.3g}; give a larger error, or no factor"
        )
    return _made(change, min(kept, key=lambda product: product.numbers) if kept else min(found, key=lambda product: product.error))


def _thin(rank: int, rows: int, columns: int, *kernel: int) -> bool:
    """Whether factors have fewer numbers than w2 [rows, columns, *kernel], and LyCORIS would look for factors of this rank there."""
    wide = columns * math.prod(kernel)
    return 2 * rank < max(rows, columns) and 0 < rank * (rows + wide) < rows * wide


def _products(change: Change, goal: Goal) -> Iterator[Product]:
    """The nearest of each shape of w1 that the goal's factor, or any of the common ones, gives."""
    out, columns, *kernel = change.layer.shape
    if goal.factor is None:
        yield _cut(torch.ones(1, 1), change.matrix, change.spectrum(goal), goal, 0.0, change.layer.shape)
    factors = _FACTORS if goal.factor is None else (goal.factor,)
    for a, c in dict.fromkeys((factorized(out, factor)[0], factorized(columns, factor)[0]) for factor in factors):
        first, second = nearest(change.matrix, a, c)
        left = max(0.0, 1 - (float(second.norm()) / change.norm) ** 2)
        if goal.most is not None and left > goal.most**2 and goal.factor is None and goal.max_rank is None:
            continue  # not even with all of w2 near enough
        room = 0.0 if goal.most is None else max(0.0, (goal.most**2 - left) / (1 - left)) ** 0.5
        inner = Goal(rank=goal.rank) if goal.most is None else Goal(error=room, max_rank=goal.max_rank)
        yield _cut(first, second.float(), spectrum_of(second, inner), inner, left, (out // a, columns // c, *kernel))


def nearest(matrix: "Tensor", a: int, c: int) -> "tuple[Tensor, Tensor]":
    """w1 [a, c] of norm 1 and w2 [b, d] for which kron(w1, w2) is the nearest to `matrix` [a·b, c·d]; float64."""
    b, d = len(matrix) // a, matrix.shape[1] // c
    blocks = matrix.reshape(a, b, c, d).transpose(1, 2).reshape(a * c, b * d)
    first = spectrum_of(blocks, Goal(rank=1)).factors(1)[1][:, 0].double()
    first = first / first.norm()
    return first.reshape(a, c), (first @ blocks.double()).reshape(b, d)


def _cut(first: "Tensor", second: "Tensor", spectrum: Spectrum, goal: Goal, left: float, shape: Shape) -> Product:
    """kron(first, second) with `second`, w2 of `shape` and this spectrum, at the goal's rank, or whole where that is no larger. `left` is
    the square of what the product leaves out with all of w2."""
    rank = goal.rank_of(spectrum)
    if not _thin(rank, *shape):
        return Product(first, None, second, math.sqrt(left))
    return Product(first, *spectrum.factors(rank), math.sqrt(left + (1 - left) * spectrum.error_of(rank) ** 2))


def _made(change: Change, product: Product) -> Module:
    """alpha is the rank of w2, so that the scale is 1; where w2 is whole alpha says nothing."""
    (out, columns, *kernel), (a, c) = change.layer.shape, product.first.shape
    first, bias = product.first.float().contiguous(), change.bias
    if product.down is None:
        second = product.up.reshape(out // a, columns // c, *kernel).contiguous()
        return change.made(LoKr(w1=first, w2=second, alpha=torch.tensor(1.0), bias=bias), error=product.error)
    rank = len(product.down)
    adapter = LoKr(w1=first, w2_a=product.up.contiguous(), w2_b=product.down.contiguous(), alpha=torch.tensor(float(rank)), bias=bias)
    return change.made(adapter, rank=rank, error=product.error)
