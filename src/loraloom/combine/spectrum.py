"""The singular values of a change, and its best approximation of any smaller rank: from its factors alone, or from the whole matrix.

From factors, with L_u L_uᵀ = upᵀ up and L_d L_dᵀ = down downᵀ, R×R matrices for R ranks together: the singular values of
delta = up @ down are those of L_uᵀ L_d = U S Vᵀ, and up · L_d V_r S_r^-½ and S_r^-½ U_rᵀ L_uᵀ · down are its best factors of rank r
(Eckart and Young 1936). No full matrix is made, and no QR of the tall sides: with Gram matrices in float64 the small values keep eight
digits below the largest, as many as float32 factors have, and SDXL's 986 modules take three quarters of the time. Where ranks cancel
one another the change is small beside its factors, and eight digits are too few: then the sides are factored by QR.

From a matrix, by the eigenvectors of the Gram matrix of its shorter side, in float64; `rangefinder.py` is faster where it can be.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_NOTHING = 1e-7  # of the largest singular value: what is below is rounding of float32 factors, and a rank for it is a rank for noise
_CANCELLED = 0.1  # of the ranks' own size: Gram matrices know a change to 1e-8 of that, which is 1e-7 of one that is this small
_ROUNDING = 1e-14  # of the ranks' own size: what float64 itself leaves of ranks that cancel


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A change in its singular values. All errors are parts of the whole change (Frobenius)."""

    down: "Tensor"  # [R, in·kernel], float32, or float64 where ranks cancel
    up: "Tensor"  # [out, R], as down
    left: "Tensor"  # L_u U, [R, K], float64, K values
    values: "Tensor"  # [K], float64, largest first
    right: "Tensor"  # L_d V, [R, K], float64
    rest: float = 0.0  # Frobenius norm of what is orthogonal to up @ down and left out of it

    @classmethod
    def of_factors(cls, down: "Tensor", up: "Tensor", scales: "Tensor | None" = None, rest: float = 0.0) -> "Spectrum":
        """Of up · diag(scales) · down: `down` [R, in·kernel], `up` [out, R], any float dtype, `scales` [R], float64, 1 if not given.

        Raises nothing for ranks that depend on one another or cancel.
        """
        scales = torch.ones(len(down), dtype=torch.float64) if scales is None else scales
        wide_down, wide_up = down.double(), up.double()
        gram_down, gram_up = wide_down @ wide_down.mT, wide_up.mT @ wide_up * (scales * scales[:, None])
        sizes_down, sizes_up = gram_down.diagonal().sqrt(), gram_up.diagonal().sqrt()
        size = float((sizes_down * sizes_up).norm())
        # The same product with each rank's size on both sides alike, so that no side hides a rank that the other makes large.
        ratio = torch.where((sizes_down > 0) & (sizes_up > 0), (sizes_down / sizes_up).sqrt(), 1.0)
        both = ratio * ratio[:, None]
        root_up, root_down = _root(gram_up * both), _root(gram_down / both)
        u, values, vt = torch.linalg.svd(root_up.mT @ root_down, full_matrices=False)
        if float(values.norm()) >= _CANCELLED * size:
            return cls(down.float(), up.float(), root_up @ u / ratio[:, None], values, root_down @ vt.mT * (scales * ratio)[:, None], rest)
        wide_down, wide_up = wide_down / ratio[:, None], wide_up * (scales * ratio)
        root_up, root_down = torch.linalg.qr(wide_up, mode="r").R.mT, torch.linalg.qr(wide_down.mT, mode="r").R.mT
        u, values, vt = torch.linalg.svd(root_up.mT @ root_down, full_matrices=False)
        values = torch.where(values > _ROUNDING * size, values, 0.0)
        return cls(wide_down, wide_up, root_up @ u, values, root_down @ vt.mT, rest)

    @classmethod
    def of_matrix(cls, delta: "Tensor") -> "Spectrum":
        """Of a change that has no factors, [out, in·kernel], with the identity as the factor of its shorter side."""
        out, columns = delta.shape
        wide = delta.double()
        squares, vectors = torch.linalg.eigh(wide @ wide.mT if out <= columns else wide.mT @ wide)
        values, vectors = squares.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
        if out <= columns:
            return cls(delta.float(), torch.eye(out), vectors, values, vectors * values)
        return cls(torch.eye(columns), delta.float(), vectors * values, values, vectors)

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of the change."""
        return math.hypot(float(self.values.norm()), self.rest)

    @cached_property
    def rank(self) -> int:
        """How many singular values are more than rounding; at most the shorter side of the change."""
        if not len(self.values) or not float(self.values[0]):
            return 0
        most = min(self.down.shape[1], self.up.shape[0])
        return min(most, int((self.values > _NOTHING * self.values[0]).sum()))

    def error_of(self, rank: int) -> float:
        """What `factors(rank)` leave out; 0 for a change of zeros."""
        return math.hypot(self._tail(rank), self.rest) / self.norm if self.norm else 0.0

    def least_error(self, rank: int) -> float:
        """What any matrix of this rank leaves out, at least: `error_of` unless there is a rest.

        With E the rest, deltaᵀ delta = (up down)ᵀ (up down) + Eᵀ E, and the first r eigenvalues of a sum are together at most those of
        both parts (Ky Fan 1949), so that r singular values of delta have at most ‖E‖² in squares more than those of up @ down.
        """
        return self._tail(rank) / self.norm if self.norm else 0.0

    def _tail(self, rank: int) -> float:
        return float(self.values[rank : self.rank].norm())

    def rank_for(self, error: float) -> int:
        """The smallest rank whose `error_of` is at most `error`; `rank` if there is none."""
        squares = self.values[: self.rank].square()
        tails = torch.cat([squares.flip(0).cumsum(0).flip(0), squares.new_zeros(1)])  # tails[r] is left out at rank r
        allowed = (error * self.norm) ** 2 - self.rest**2
        return min(self.rank, int((tails > allowed).sum()))

    def factors(self, rank: int) -> "tuple[Tensor, Tensor]":
        """The best (down [r, in·kernel], up [out, r]) of at most this rank, float32, singular values split evenly between them."""
        kept = min(rank, self.rank)
        halves = self.values[:kept].rsqrt()
        up = self.up @ (self.right[:, :kept] * halves).to(self.up.dtype)
        down = (self.left[:, :kept] * halves).mT.to(self.down.dtype) @ self.down
        return down.float().contiguous(), up.float().contiguous()


def product_norm(down: "Tensor", up: "Tensor") -> float:
    """Frobenius norm of up [out, R] @ down [R, in·kernel]: the trace of two small matrices' product, in float64."""
    grams = (up.double().mT @ up.double()) * (down.double() @ down.double().mT)
    return float(grams.sum().clamp_min(0).sqrt())


def _root(gram: "Tensor") -> "Tensor":
    """L with L Lᵀ = gram. Cholesky where that is possible; where ranks depend on one another, by eigenvalues, which are then 0 or more."""
    root, failed = torch.linalg.cholesky_ex(gram)
    if not bool(failed) and bool(torch.isfinite(root).all()):
        found: Tensor = root
        return found
    values, vectors = torch.linalg.eigh(gram)
    by_eigenvalues: Tensor = vectors * values.clamp_min(0).sqrt()
    return by_eigenvalues
