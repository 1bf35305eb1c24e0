"""LoHa: delta = (alpha/r) · (w1_a w1_b) ∘ (w2_a w2_b), with Tucker cores for convolutions.  Hyeon-Woo et al. 2021, arXiv:2108.06098.

The Tucker form (their proposition 3): each side is X[p,q,..] = Σ_ij t[i,j,..] w_a[i,p] w_b[j,q]. A Hadamard product of two
matrices of rank r is one of rank r² at most (Khatri-Rao): exact factors without a decomposition.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import MAX_RANK, Adapter, Shape, as_target, key
from loraloom.adapters.full import Full
from loraloom.adapters.scaled import Scaled, by_rank, whole
from loraloom.errors import BadTensor, LimitExceeded
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class LoHa(Scaled):
    name: ClassVar[str] = "loha"
    late: ClassVar[frozenset[str]] = frozenset({"w2_a"})

    w1_a: "Tensor" = key("hada_w1_a")  # [out, rank]; with cores: [rank, out]
    w1_b: "Tensor" = key("hada_w1_b")  # [rank, in·kernel]; with cores: [rank, in]
    w2_a: "Tensor" = key("hada_w2_a")  # as w1_a
    w2_b: "Tensor" = key("hada_w2_b")  # as w1_b
    t1: "Tensor | None" = key("hada_t1", optional=True)  # [rank, rank, *kernel], the Tucker core of the first side
    t2: "Tensor | None" = key("hada_t2", optional=True)  # of the second: both or none

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        one, two = ([shapes.get(f"hada_{part}") for part in (f"w{side}_a", f"w{side}_b", f"t{side}")] for side in (1, 2))
        if (one[2] is None) != (two[2] is None):
            raise BadTensor("loha: hada_t1 and hada_t2 come together; this file has one of them")
        if one != two:
            raise BadTensor(f"loha: the two sides of one product have the shapes {_listed(one)} and {_listed(two)}")
        a, b, core = shapes["hada_w1_a"], shapes["hada_w1_b"], shapes.get("hada_t1")
        rank = b[0] if len(b) == 2 else 0
        if rank > MAX_RANK:
            raise LimitExceeded(f"loha: rank {rank:,}, the limit is {MAX_RANK:,}")
        if not rank or len(a) != 2 or a[1 if core is None else 0] != rank:
            raise BadTensor(f"loha: w_a {list(a)} and w_b {list(b)} have no rank in common")
        if core is not None and (len(core) < 3 or core[:2] != (rank, rank)):
            raise BadTensor(f"loha: the Tucker core {list(core)} is not one of rank {rank}")

    @property
    def rank(self) -> int:
        return int(self.w1_b.shape[0])

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        a, b, core = shapes["hada_w1_a"], shapes["hada_w1_b"], shapes.get("hada_t1")
        if core is not None:
            return as_target((a[1], b[1], *core[2:]), target)
        return target if (a[0], b[1]) == (target[0], math.prod(target[1:])) else (a[0], b[1])

    @classmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None, tucker: bool = False) -> "LoHa":
        """As LyCORIS: normal, w_b of deviation 1, w1_a and the cores of 0.1, w2_a zero; `tucker` is for kernels larger than 1×1."""
        out, columns, *kernel = weight.shape
        core = tucker and math.prod(kernel) > 1

        def normal(deviation: float, *shape: int) -> "Tensor":
            values = torch.randn(shape, generator=generator, device=generator.device if generator else "cpu")
            return (values * deviation).to(weight.device)

        a = (rank, out) if core else (out, rank)
        b = (rank, columns if core else columns * math.prod(kernel))
        return cls(
            w1_a=normal(0.1, *a),
            w1_b=normal(1, *b),
            w2_a=torch.zeros(a, device=weight.device),
            w2_b=normal(1, *b),
            t1=normal(0.1, rank, rank, *kernel) if core else None,
            t2=normal(0.1, rank, rank, *kernel) if core else None,
            alpha=torch.tensor(float(alpha)),
        )

    def delta(self, weight: "Tensor") -> "Tensor":
        (up1, down1), (up2, down2) = self._sides()
        return ((up1 @ down1) * (up2 @ down2) * self.multiplier).to(weight.device).reshape(weight.shape)

    def _sides(self) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
        """(up [out, rank], down [rank, in·kernel]) of both sides, float32, the cores folded into the downs."""
        return _side(self.w1_a, self.w1_b, self.t1), _side(self.w2_a, self.w2_b, self.t2)

    def factors(self, shape: Shape) -> "tuple[Tensor, Tensor]":
        """Of rank², or of the weight's shorter side where that is less: nothing larger than the weight is made of a large rank."""
        (up1, down1), (up2, down2) = self._sides()
        if self.rank**2 >= min(shape[0], math.prod(shape[1:])):
            return whole((up1 @ down1) * (up2 @ down2) * self.multiplier)
        up = (up1[:, :, None] * up2[:, None, :]).flatten(1)
        down = (down1[:, None, :] * down2[None, :, :]).flatten(0, 1)
        return down, up * self.multiplier

    def thin(self, shape: Shape) -> "tuple[Tensor, Tensor, float] | None":
        if self.rank**2 * (shape[0] + math.prod(shape[1:])) >= math.prod(shape):
            return None
        return (*self.factors(shape), 1.0)

    def cut(self, rank: int) -> "LoHa":
        """Both sides with their first ranks."""
        if rank >= self.rank:
            return self
        plain, scale = self.unscaled(), torch.tensor(self.multiplier, dtype=torch.float32)
        b = {"w1_b": self.w1_b[:rank], "w2_b": self.w2_b[:rank]}
        if self.t1 is None or self.t2 is None:
            return replace(plain, w1_a=self.w1_a[:, :rank], w2_a=self.w2_a[:, :rank], **b, scale=scale)
        cores = {"t1": self.t1[:rank, :rank], "t2": self.t2[:rank, :rank]}
        return replace(plain, w1_a=self.w1_a[:rank], w2_a=self.w2_a[:rank], **cores, **b, scale=scale)

    def weighed(self, ranks: "Tensor") -> "LoHa":
        """The ranks of the first side: the second has as many, and every product of two of them would be weighed twice."""
        return replace(self, w1_b=by_rank(self.w1_b, ranks))

    def bound(self, weight: "Tensor") -> Adapter:
        """The delta itself, in the weight's dtype: a Hadamard product has no form that is cheaper to apply than to build once."""
        return Full(diff=self.delta(weight).to(weight.dtype), bias=self.bias)

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        weight: Tensor = layer.weight  # type: ignore[assignment]
        return Full(diff=self.delta(weight), bias=self.bias).branch(layer, x, y)

    def rows(self, start: int, stop: int) -> "LoHa":
        if self.t1 is None:
            a = {"w1_a": self.w1_a[start:stop], "w2_a": self.w2_a[start:stop]}
        else:
            a = {"w1_a": self.w1_a[:, start:stop], "w2_a": self.w2_a[:, start:stop]}
        return self.with_tensors({**a, **({} if self.bias is None else {"bias": self.bias[start:stop]})})


def _side(a: "Tensor", b: "Tensor", core: "Tensor | None") -> "tuple[Tensor, Tensor]":
    if core is None:
        return a.float(), b.float()
    return a.float().t(), torch.einsum("ij...,jq->iq...", core.float(), b.float()).flatten(1)


def _listed(side: "list[Shape | None]") -> str:
    return ", ".join(str(list(shape)) for shape in side if shape is not None)
