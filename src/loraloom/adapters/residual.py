"""PiSSA and OLoRA: delta = (alpha/r) · (up down − up₀ down₀), where training took its own beginning, up₀ down₀, out of W first.

PiSSA begins at the best approximation of W of rank r, (alpha/r) up₀ down₀ = U_r S_r V_rᵀ (Meng et al. 2024, arXiv:2404.02948);
OLoRA at the first r columns of Q and rows of R of W = Q R (Büyükakyüz 2024, arXiv:2406.01775). Both as PEFT computes them.
A file has up and down at the end of training only, and looks like LoRA's: its PEFT config says which of the two it is.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import Adapter, NotExact
from loraloom.adapters.lora import LoRA
from loraloom.errors import BadTensor
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class Residual(LoRA):
    """LoRA on what was left of W. Nothing in its tensors says so, so it is in no tuple of types and no file is written with it."""

    kinds: ClassVar[frozenset[str]] = frozenset({"linear"})
    reads_weight: ClassVar[bool] = True
    unwritable: ClassVar[str] = (
        "changes that begin inside the base's own weights, which are not in the file; `loraloom extract` reads them from the base and "
        "writes the same change as a LoRA"
    )

    first_down: "Tensor | None" = field(default=None, kw_only=True)  # down₀ [rank, in], where it was worked out for one weight
    first_up: "Tensor | None" = field(default=None, kw_only=True)  # up₀ [out, rank]

    @abstractmethod
    def beginning(self, weight: "Tensor") -> "tuple[Tensor, Tensor]":
        """(down₀, up₀) of this float32 weight, [rank, in] and [out, rank], unscaled as the file's own are."""

    def delta(self, weight: "Tensor") -> "Tensor":
        first_down, first_up = self._first(weight)
        down, up = (tensor.to(weight.device).float() for tensor in (self.down, self.up))
        return self.multiplier * (up @ down - first_up.float() @ first_down.float())

    def bound(self, weight: "Tensor") -> Adapter:
        down, up = self._first(weight)
        return replace(self, first_down=down.to(weight.dtype), first_up=up.to(weight.dtype))

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        weight: Tensor = layer.weight  # type: ignore[assignment]
        down, up = (tensor.to(x) for tensor in self._first(weight))
        linear = torch.nn.functional.linear
        return super().branch(layer, x, y) - linear(linear(x, down) * self.multiplier, up)

    def factors(self, shape: tuple[int, ...]) -> None:  # type: ignore[override]
        """They depend on W."""

    def thin(self, shape: tuple[int, ...]) -> None:  # type: ignore[override]
        """They depend on W."""

    def cut(self, rank: int) -> None:  # type: ignore[override]
        """Fewer ranks would begin elsewhere."""

    def weighed(self, ranks: "Tensor") -> None:  # type: ignore[override]
        """As `cut`."""

    @property
    def degree(self) -> int:
        return 0

    def rows(self, start: int, stop: int) -> "LoRA":
        raise NotExact(f"{self.name}: it begins at a part of all rows of the weight")

    def _first(self, weight: "Tensor") -> "tuple[Tensor, Tensor]":
        if self.first_down is not None and self.first_up is not None:
            return self.first_down, self.first_up
        if self.multiplier <= 0:
            raise BadTensor(f"{self.name}: the scale is {self.multiplier:g}; nothing begins at a scale that is not above 0")
        return self.beginning(weight.detach().float())


@dataclass(frozen=True, eq=False)
class PiSSA(Residual):
    name: ClassVar[str] = "pissa"

    def beginning(self, weight: "Tensor") -> "tuple[Tensor, Tensor]":
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        root = (values[: self.rank] / self.multiplier).sqrt()
        return root[:, None] * right[: self.rank], left[:, : self.rank] * root


@dataclass(frozen=True, eq=False)
class OLoRA(Residual):
    name: ClassVar[str] = "olora"

    def beginning(self, weight: "Tensor") -> "tuple[Tensor, Tensor]":
        q, r = torch.linalg.qr(weight)
        return r[: self.rank], q[:, : self.rank]


# By what PEFT's config calls the beginning.
BEGINNINGS: Mapping[str, type[Residual]] = {kind.name: kind for kind in (PiSSA, OLoRA)}
