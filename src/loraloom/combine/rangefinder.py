"""The first singular values of a whole matrix by a randomised range finder, where that can prove what the goal promises.

Q is an orthonormal basis of A Aᵀ A Ω, Ω [columns, l] random; B = Qᵀ A has the singular values of A up to what Q leaves out.
Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithm 4.4. What it leaves out, ‖A − Q B‖, is computed, not estimated, and bounds how
far any rank's result can be from the best one (`Spectrum.least_error`). While that proves too little the basis is doubled.
"""

from typing import TYPE_CHECKING

from loraloom.combine.spectrum import Spectrum
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from loraloom.combine.goal import Goal

_MORE = 16  # columns of the basis besides the rank that is wanted
_FIRST = 32  # columns, where an error is wanted and the rank is not known
# Of the shorter side. Up to here a try takes 2 to 19 % of the time of the exact decomposition where the sides are 1:1 to 1:4 (one core, 320
# to 2048 rows), and 39 to 64 % for convolutions of 1:9, so that one in vain costs little and one that proves enough is always faster.
_WIDEST = 1 / 10


def spectrum_of(delta: "Tensor", goal: "Goal") -> Spectrum:
    """The singular values of `delta` [out, in·kernel] as far as the goal needs them, else all of them.

    The same matrix gives the same result at every run: the random numbers have a fixed seed. Another number of threads may round
    products differently in the last bit.
    """
    shorter = min(delta.shape)
    size = _FIRST if goal.rank is None else goal.rank + _MORE
    before = float("inf")
    while size <= shorter * _WIDEST:
        found = _projected(delta.float(), size)
        if goal.holds(found):
            return found
        if found.rest > before / 2:  # no matrix of low rank: the values fall too slowly for any basis that pays
            break
        before, size = found.rest, 2 * size
    return Spectrum.of_matrix(delta)


def _projected(delta: "Tensor", size: int) -> Spectrum:
    """`delta` projected onto `size` columns, with the rest that this leaves."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(delta.shape[1], size, generator=generator)
    basis = _orthonormal(delta @ random)
    basis = _orthonormal(delta @ _orthonormal(delta.mT @ basis))
    inside = basis.mT @ delta
    rest = float(torch.linalg.vector_norm(delta - basis @ inside, dtype=torch.float64))
    return Spectrum.of_factors(inside, basis, rest=rest)


def _orthonormal(columns: "Tensor") -> "Tensor":
    """In float64, so that the basis is orthonormal to float32's last digit."""
    basis: Tensor = torch.linalg.qr(columns.double()).Q.float()
    return basis
