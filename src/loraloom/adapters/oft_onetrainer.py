"""OFT of OneTrainer: delta = W (R − I)ᵀ on a Linear, W (R − I) on a convolution, with R = I + 2Q + 2Q² + 2Q³ + Q⁴ block-diagonal.

R turns the input side: a convolution's over in·kh·kw together. It is (I + Q)(I − Q)⁻¹ with its series cut short, as PEFT has it
(Qiu et al. 2025, arXiv:2506.19847). Q is skew, the file has its upper triangles in rows; one row is shared by all blocks.
The marker `oft_R.scaled_oft` says by being there that the triangles are divided by 2√(size − 1), whatever it holds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import Adapter, Shape, key
from loraloom.adapters.full import Full
from loraloom.adapters.like import like
from loraloom.adapters.rotation import check_limits, divisors, product
from loraloom.errors import BadTensor, SettingsError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class OneTrainerOFT(Adapter):
    name: ClassVar[str] = "oft-onetrainer"
    reads_weight: ClassVar[bool] = True

    triangles: "Tensor" = key("oft_R.weight")  # [blocks, size·(size − 1)/2]; one row: shared by all blocks
    scaled: "Tensor | None" = key("oft_R.scaled_oft", optional=True, number=True)
    worked_out: "Tensor | None" = field(default=None, kw_only=True)  # `_turns`, where they were worked out for one weight

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        shape = shapes["oft_R.weight"]
        if len(shape) != 2 or 0 in shape:
            raise BadTensor(f"oft-onetrainer: oft_R.weight {list(shape)} is not [blocks, size·(size − 1)/2]")
        size = size_of(shape[1])
        if size * (size - 1) // 2 != shape[1]:
            near = " and ".join(f"{each * (each - 1) // 2} of blocks of {each}" for each in (size, size + 1))
            raise BadTensor(f"oft-onetrainer: oft_R.weight {list(shape)}: {shape[1]} is no triangle size·(size − 1)/2; near are {near}")
        check_limits(cls.name, "oft_R.weight", shape[0], size)

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        blocks, size = shapes["oft_R.weight"][0], size_of(shapes["oft_R.weight"][1])
        columns = math.prod(target[1:])
        fits = columns % size == 0 if blocks == 1 else columns == blocks * size
        return target if fits else (target[0], blocks * size)

    @classmethod
    def misfit(cls, shapes: Mapping[str, Shape], target: Shape) -> str | None:
        blocks, size = shapes["oft_R.weight"][0], size_of(shapes["oft_R.weight"][1])
        if cls.delta_shape(shapes, target) != target:
            number = "shared blocks" if blocks == 1 else f"{blocks} blocks"
            return f"{number} of {size} do not make the {math.prod(target[1:])} input columns of {list(target)}"
        return super().misfit(shapes, target)

    @classmethod
    def init(
        cls,
        weight: "Tensor",
        *,
        rank: int,
        alpha: float,
        generator: "torch.Generator | None" = None,
        block_size: int | None = None,
        block_share: bool = False,
        scaled: bool = True,
    ) -> "OneTrainerOFT":
        """Zeros. `block_size` (the rank, where not given) moves to the nearest divisor of the input columns, as in OneTrainer and
        PEFT; there is no alpha. Raises SettingsError where the only divisor is 1."""
        columns, wanted = weight[0].numel(), rank if block_size is None else block_size
        sizes = divisors(columns)[1:]
        if not sizes:
            raise SettingsError(f"oft-onetrainer: blocks of {wanted} in {columns} input column turn nothing")
        size = min(sizes, key=lambda each: (abs(each - wanted), each))
        return cls(
            triangles=torch.zeros(1 if block_share else columns // size, size * (size - 1) // 2, device=weight.device),
            scaled=torch.tensor(1.0) if scaled else None,
        )

    def delta(self, weight: "Tensor") -> "Tensor":
        turns = self._turns(tuple(weight.shape)).to(weight.device)
        parts = weight.float().reshape(len(weight), *turns.shape[:2])
        return torch.einsum("oki,kij->okj", parts, turns).reshape(weight.shape)

    def bound(self, weight: "Tensor") -> Adapter:
        if weight[0, 0].numel() > 1:
            return Full(diff=self.delta(weight).to(weight.dtype), bias=self.bias)
        return replace(self, worked_out=self._turns(tuple(weight.shape)).to(weight.device, weight.dtype))

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        """One product of the base with x turned; with W turned where the kernel has several points, as a turn mixes them."""
        weight: Tensor = layer.weight  # type: ignore[assignment]
        bias = None if self.bias is None else self.bias.to(y.device, y.dtype)
        if weight[0, 0].numel() > 1:
            return like(layer, x, self.delta(weight).to(y.device, y.dtype), bias)
        turns = self._turns(tuple(weight.shape)) if self.worked_out is None else self.worked_out
        columns = x.flatten(2) if isinstance(layer, torch.nn.Conv2d) else x.reshape(-1, x.shape[-1], 1)
        turned = product(turns.to(y.device, y.dtype), columns.to(y.dtype)).reshape(x.shape)
        return like(layer, turned, weight.to(y.dtype), bias)

    def rows(self, start: int, stop: int) -> "OneTrainerOFT":
        """Its own for all rows: the input side is turned."""
        return replace(self, bias=None if self.bias is None else self.bias[start:stop])

    @property
    def nbytes(self) -> int:
        return super().nbytes + (0 if self.worked_out is None else self.worked_out.nbytes)

    def _turns(self, shape: Shape) -> "Tensor":
        """What stands right of W in the delta, [blocks, size, size], float32."""
        triangles = self.triangles.float()
        size = size_of(triangles.shape[1])
        if self.scaled is not None:
            triangles = triangles / (2 * math.sqrt(size - 1))
        row, column = torch.triu_indices(size, size, 1, device=triangles.device)
        upper = triangles.new_zeros(len(triangles), size, size)
        upper[:, row, column] = triangles
        q = upper - upper.mT
        identity = torch.eye(size, device=q.device, dtype=torch.float32)
        turns = q @ (2 * identity + q @ (2 * identity + q @ (2 * identity + q)))
        turns = turns.mT if len(shape) == 2 else turns
        return turns.expand(math.prod(shape[1:]) // size, size, size)


def size_of(triangle: int) -> int:
    """The size of a block whose upper triangle has this many numbers; of the next smaller triangle if none has."""
    return (1 + math.isqrt(1 + 8 * triangle)) // 2
