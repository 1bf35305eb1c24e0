"""BOFT: delta = R W − W with R = R_m … R_1, butterfly stages of block rotations.  Liu et al. 2024, arXiv:2311.06243.

As LyCORIS has it: stage i turns blocks of size b, gathered so that rows 2^i · b/2 apart meet, each by its own
(I + Q)(I − Q)⁻¹, not transposed; `alpha` is the constraint as OFT has it. We are linear in the strength for every type:
W + s · delta. LyCORIS moves every stage towards I instead, which is the same at strengths 0 and 1 and nowhere between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import Adapter, Shape, key
from loraloom.adapters.butterfly import in_runs, stage_by_stage
from loraloom.adapters.full import Full
from loraloom.adapters.rotation import RowRotation, cayley, divisors, product, skew
from loraloom.errors import BadTensor, SettingsError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class BOFT(RowRotation):
    name: ClassVar[str] = "boft"
    blocks_suffix: ClassVar[str] = "oft_blocks"

    blocks: "Tensor" = key("oft_blocks")  # X, [stages, blocks, size, size]
    alpha: "Tensor | None" = key("alpha", optional=True, number=True)  # the constraint; none or 0: not clamped

    @classmethod
    def accepts(cls, shapes: Mapping[str, Shape]) -> bool:
        return super().accepts(shapes) and len(shapes["oft_blocks"]) == 4

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        shape = shapes["oft_blocks"]
        stages, blocks, size, _ = shape
        if size % 2:
            raise BadTensor(f"boft: oft_blocks {list(shape)} has blocks of {size} rows; a butterfly pairs two halves")
        if stages > most_stages(blocks):
            raise BadTensor(f"boft: oft_blocks {list(shape)} has {stages} stages; {blocks} blocks take {most_stages(blocks)} at most")

    @classmethod
    def init(
        cls,
        weight: "Tensor",
        *,
        rank: int,
        alpha: float,
        generator: "torch.Generator | None" = None,
        block_size: int | None = None,
        boft_m: int | None = None,
        constraint: float = 0.0,
        rescaled: bool = False,
    ) -> "BOFT":
        """Zeros. Blocks are as large as LyCORIS makes them for this rank, or `block_size`; `boft_m` stages, or as many as there can be.
        alpha is not used: the file's is `constraint`. Raises SettingsError where the rows cannot be halved down to such blocks."""
        out = len(weight)
        possible = butterfly_sizes(out)
        size = max((each for each in possible if each <= rank), default=0) if block_size is None else block_size
        if size not in possible:
            known = ", ".join(map(str, possible)) or "none"
            raise SettingsError(f"boft: {out} rows cannot be halved down to blocks of {size or rank} or fewer; use a size out of {known}")
        most = most_stages(out // size)
        stages = most if boft_m is None else boft_m
        if not 1 <= stages <= most:
            raise SettingsError(f"boft: {stages} stages; {out // size} blocks of {size} take 1 to {most}")
        return cls(
            blocks=torch.zeros(stages, out // size, size, size, device=weight.device),
            alpha=torch.tensor(float(constraint)),
            rescale=torch.ones(out, *[1] * (weight.ndim - 1), device=weight.device) if rescaled else None,
        )

    def turns(self) -> "Tensor":
        constraint = 0.0 if self.alpha is None else float(self.alpha) * self.blocks.shape[1] * self.blocks.shape[2]
        return cayley(skew(self.blocks, constraint))

    def bound(self, weight: "Tensor") -> Adapter:
        """The stages multiplied into one, or the whole delta where that has fewer numbers: no dearer than one product of the base.
        Walking the stages takes 3 to 7 times as long as the layer (320 and 1280 rows in blocks of 10, one core)."""
        stages, _, size, _ = self.blocks.shape
        reach = 2 ** (stages - 1) * size  # rows that meet, in the end
        if reach > weight[0].numel():
            return Full(diff=self.delta(weight).to(weight.dtype), bias=self.bias)
        places = torch.eye(reach, device=weight.device, dtype=torch.float32).repeat(len(weight) // reach, 1)[None]
        whole = self.change(self.turns().to(weight.device), places).reshape(-1, reach, reach)
        return replace(self, worked_out=whole.to(weight.dtype))

    @classmethod
    def change(cls, turns: "Tensor", rows: "Tensor") -> "Tensor":
        """`turns` without stages are the product of all."""
        if turns.ndim == 3:
            return product(turns, rows)
        return in_runs(turns, rows) if rows.shape[2] > 1 else stage_by_stage(turns, rows)


def most_stages(blocks: int) -> int:
    """Stage i joins 2^i blocks: as many as divide them, and the one within blocks."""
    return (blocks & -blocks).bit_length()


def butterfly_sizes(out: int) -> list[int]:
    """The even block sizes of which `out` is a power of two."""
    return [size for size in divisors(out) if size % 2 == 0 and (out // size).bit_count() == 1]
