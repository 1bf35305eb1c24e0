"""The singular values of a low-rank change from its factors alone, and its best approximation of any smaller rank.

With L_u L_uᵀ = upᵀ up and L_d L_dᵀ = down downᵀ, R×R matrices for R ranks together, the singular values of delta = up @ down are
those of L_uᵀ L_d = U S Vᵀ, and up · L_d V_r S_r^-½ and S_r^-½ U_rᵀ L_uᵀ · down are its best factors of rank r (Eckart and Young 1936).
No full matrix is made, and no QR of the tall sides: with Gram matrices in float64 the small values keep eight digits below the
largest, as many as float32 factors have, and SDXL's 986 modules take three quarters of the time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_NOTHING = 1e-7  # of the largest singular value: what is below is rounding of float32 factors, and a rank for it is a rank for noise


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A change in its singular values."""

    down: "Tensor"  # [R, in·kernel], float32
    up: "Tensor"  # [out, R], float32
    left: "Tensor"  # L_u U, [R, R], float64
    values: "Tensor"  # [R], float64, largest first
    right: "Tensor"  # L_d V, [R, R], float64

    @classmethod
    def of_factors(cls, down: "Tensor", up: "Tensor") -> "Spectrum":
        """`down` [R, in·kernel], `up` [out, R], any float dtype: they count as float32. Raises nothing for ranks that depend on others."""
        down, up = down.float(), up.float()
        wide_down, wide_up = down.double(), up.double()
        root_up, root_down = _root(wide_up.mT @ wide_up), _root(wide_down @ wide_down.mT)
        u, values, vt = torch.linalg.svd(root_up.mT @ root_down)
        return cls(down, up, root_up @ u, values, root_down @ vt.mT)

    @classmethod
    def of_matrix(cls, delta: "Tensor") -> "Spectrum":
        """Of a change that has no factors, [out, in·kernel]: one of its sides is taken as the identity."""
        out, columns = delta.shape
        if out <= columns:
            return cls.of_factors(delta, torch.eye(out))
        return cls.of_factors(torch.eye(columns), delta)

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of the change."""
        return float(torch.linalg.vector_norm(self.values))

    @cached_property
    def rank(self) -> int:
        """How many singular values are more than rounding; at most the shorter side of the change."""
        if not len(self.values) or not float(self.values[0]):
            return 0
        most = min(self.down.shape[1], self.up.shape[0])
        return min(most, int((self.values > _NOTHING * self.values[0]).sum()))

    def error_of(self, rank: int) -> float:
        """What the best approximation of this rank leaves out, as a part of the whole (Frobenius); 0 for a change of zeros."""
        left = self.values[rank : self.rank]
        return float(torch.linalg.vector_norm(left)) / self.norm if self.norm else 0.0

    def rank_for(self, error: float) -> int:
        """The smallest rank whose `error_of` is at most `error`."""
        squares = self.values[: self.rank].square()
        tails = torch.cat([squares.flip(0).cumsum(0).flip(0), squares.new_zeros(1)])  # tails[r] is left out at rank r
        allowed = (error * self.norm) ** 2
        return int((tails > allowed).sum())

    def factors(self, rank: int) -> "tuple[Tensor, Tensor]":
        """The best (down [r, in·kernel], up [out, r]) of at most this rank, float32, singular values split evenly between them."""
        kept = min(rank, self.rank)
        halves = self.values[:kept].rsqrt()
        up = self.up @ (self.right[:, :kept] * halves).float()
        down = (self.left[:, :kept] * halves).mT.float() @ self.down
        return down.contiguous(), up.contiguous()


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
