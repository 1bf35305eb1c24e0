"""Legacy OFT: delta = (Rᵀ − I) W with the blocks of R themselves in the file, under `oft_diag`.  Early LyCORIS; read by the WebUI."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import Shape, key
from loraloom.adapters.rotation import RowRotation, fitting_size
from loraloom.errors import BadTensor
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class OFTDiag(RowRotation):
    name: ClassVar[str] = "oft-diag"
    undecayed: ClassVar[frozenset[str]] = frozenset({"blocks", "rescale"})
    blocks_suffix: ClassVar[str] = "oft_diag"

    blocks: "Tensor" = key("oft_diag")  # R, [blocks, size, size]; applied as it is, orthogonal or not
    alpha: "Tensor | None" = key("alpha", optional=True, number=True)  # of the training; R was clamped already

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        if len(shapes["oft_diag"]) != 3:
            raise BadTensor(f"oft-diag: oft_diag {list(shapes['oft_diag'])} is not [blocks, size, size]")

    @classmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None) -> "OFTDiag":
        """Identities, in blocks as OFT has them for this rank; nothing keeps what is trained from them orthogonal."""
        size = fitting_size(len(weight), rank)
        return cls(blocks=torch.eye(size, device=weight.device).repeat(len(weight) // size, 1, 1))

    def turns(self) -> "Tensor":
        turns: Tensor = self.blocks.float() - torch.eye(self.blocks.shape[-1], device=self.blocks.device, dtype=torch.float32)
        return turns.mT

    def rows(self, start: int, stop: int) -> "OFTDiag":
        """Exact where no block is cut."""
        return self._cut(start, stop, self.blocks)
