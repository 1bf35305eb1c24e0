"""OFT: delta = (Rᵀ − I) W with R block-diagonal of rotations (I + Q)(I − Q)⁻¹, Q = X − Xᵀ.  Qiu et al. 2023, arXiv:2306.07280.

As kohya and LyCORIS have it: R acts on the output rows transposed, einsum("k n m, k n ... -> k m ...", R, W). `alpha` is the
constraint (COFT): ‖Q‖ over all blocks is at most alpha·out, and 0 is none, which is LyCORIS' rule. `rescale` multiplies rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import Shape, key
from loraloom.adapters.rotation import RowRotation, cayley, divisors, fitting_size, skew
from loraloom.errors import BadTensor, SettingsError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class OFT(RowRotation):
    name: ClassVar[str] = "oft"
    blocks_suffix: ClassVar[str] = "oft_blocks"

    blocks: "Tensor" = key("oft_blocks")  # X, [blocks, size, size]
    alpha: "Tensor | None" = key("alpha", optional=True, number=True)  # the constraint; none or 0: not clamped

    @classmethod
    def accepts(cls, shapes: Mapping[str, Shape]) -> bool:
        return super().accepts(shapes) and len(shapes["oft_blocks"]) != 4  # four dimensions are BOFT's

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        if len(shapes["oft_blocks"]) != 3:
            raise BadTensor(f"oft: oft_blocks {list(shapes['oft_blocks'])} is not [blocks, size, size]")

    @classmethod
    def init(
        cls,
        weight: "Tensor",
        *,
        rank: int,
        alpha: float,
        generator: "torch.Generator | None" = None,
        block_size: int | None = None,
        constraint: float = 0.0,
        rescaled: bool = False,
    ) -> "OFT":
        """Zeros. Blocks are as large as LyCORIS makes them for this rank, or `block_size`; as there, alpha is not used: the
        file's alpha is `constraint`. Raises SettingsError where no block would turn anything."""
        out = len(weight)
        size = fitting_size(out, rank) if block_size is None else block_size
        if size < 2 or out % size:
            known = ", ".join(str(each) for each in divisors(out)[1:])
            raise SettingsError(
                f"oft: blocks of {size} (rank {rank}) turn nothing in {out} rows; use a block_size out of {known or 'none'}"
            )
        return cls(
            blocks=torch.zeros(out // size, size, size, device=weight.device),
            alpha=torch.tensor(float(constraint)),
            rescale=torch.ones(out, *[1] * (weight.ndim - 1), device=weight.device) if rescaled else None,
        )

    def turns(self) -> "Tensor":
        return cayley(self._skew()).mT

    def rows(self, start: int, stop: int) -> "OFT":
        """Exact where no block is cut; a constraint is worked into the blocks, as it is one of all rows."""
        if self.alpha is None or self._constraint() <= 0:
            return self._cut(start, stop, self.blocks)
        half = self._skew() / 2  # X − Xᵀ of half a skew Q is Q
        return replace(self._cut(start, stop, half), alpha=torch.zeros_like(self.alpha))

    def _constraint(self) -> float:
        return 0.0 if self.alpha is None else float(self.alpha) * self.blocks.shape[0] * self.blocks.shape[1]

    def _skew(self) -> "Tensor":
        return skew(self.blocks, self._constraint())
