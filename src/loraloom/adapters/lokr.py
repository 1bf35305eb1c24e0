"""LoKr: delta = scale · kron(w1, w2), each full or factored, w2 with a Tucker core for convolutions.  Yeh et al. 2023, arXiv:2309.14859.

out = a·b and in = c·d for w1 [a, c] and w2 [b, d, *kernel]. The scale is alpha/r with the rank of w2 (of w1 where w2 is full), and 1
where both are full, as LyCORIS has it; PEFT divides by its configured rank there too, which its files say as `scale`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import MAX_RANK, Adapter, Shape, as_target, key
from loraloom.adapters.full import Full
from loraloom.adapters.like import along, like
from loraloom.adapters.scaled import Scaled, by_rank, drawn, whole
from loraloom.errors import BadTensor, LimitExceeded
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Conv2d, Module

_FORMS = tuple(first | second for first in ({"w1"}, {"w1_a", "w1_b"}) for second in ({"w2"}, {"w2_a", "w2_b"}, {"w2_a", "w2_b", "t2"}))


@dataclass(frozen=True, eq=False)
class LoKr(Scaled):
    name: ClassVar[str] = "lokr"
    late: ClassVar[frozenset[str]] = frozenset({"w2", "w2_b"})

    w1: "Tensor | None" = key("lokr_w1", optional=True)  # [a, c], or its factors:
    w1_a: "Tensor | None" = key("lokr_w1_a", optional=True)  # [a, rank]
    w1_b: "Tensor | None" = key("lokr_w1_b", optional=True)  # [rank, c]
    w2: "Tensor | None" = key("lokr_w2", optional=True)  # [b, d, *kernel], or its factors:
    w2_a: "Tensor | None" = key("lokr_w2_a", optional=True)  # [b, rank]; with a core: [rank, b]
    w2_b: "Tensor | None" = key("lokr_w2_b", optional=True)  # [rank, d·kernel]; with a core: [rank, d]
    t2: "Tensor | None" = key("lokr_t2", optional=True)  # [rank, rank, *kernel], the Tucker core

    @classmethod
    def accepts(cls, shapes: Mapping[str, Shape]) -> bool:
        return shapes.keys() <= cls.suffixes().keys() and any(form <= _parts(shapes).keys() for form in _FORMS)

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        parts = _parts(shapes)
        if parts.keys() not in _FORMS:
            raise BadTensor(f"lokr: {', '.join(f'lokr_{part}' for part in sorted(parts))} say one matrix in two ways")
        for part, shape in parts.items():
            if len(shape) < 2 or 0 in shape or (len(shape) > 2 and part not in ("w2", "w2_b", "t2")):
                raise BadTensor(f"lokr: lokr_{part} is a matrix, not {list(shape)}")
        core = parts.get("t2")
        for side in ("w1", "w2"):
            if side in parts:
                continue
            a, b = parts[f"{side}_a"], parts[f"{side}_b"]
            if b[0] > MAX_RANK:
                raise LimitExceeded(f"lokr: rank {b[0]:,}, the limit is {MAX_RANK:,}")
            if a[0 if side == "w2" and core else 1] != b[0]:
                raise BadTensor(f"lokr: {side}_a {list(a)} and {side}_b {list(b)} have no rank in common")
        if core and (len(core) < 3 or core[:2] != (parts["w2_b"][0],) * 2 or len(parts["w2_b"]) > 2):
            raise BadTensor(f"lokr: the Tucker core {list(core)} does not continue w2_b {list(parts['w2_b'])}")

    @property
    def rank(self) -> int | None:
        """Of w2, or of w1 where only that is factored; None where both are full."""
        factored = self.w2_b if self.w2_b is not None else self.w1_b
        return None if factored is None else int(factored.shape[0])

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        parts = _parts(shapes)
        a, c = parts["w1"] if "w1" in parts else (parts["w1_a"][0], parts["w1_b"][1])
        if "w2" in parts:
            b, d, *kernel = parts["w2"]
        elif "t2" in parts:
            b, d, *kernel = parts["w2_a"][1], parts["w2_b"][1], *parts["t2"][2:]
        else:
            b, d, *kernel = parts["w2_a"][0], *parts["w2_b"][1:]
        found = (a * b, c * d, *kernel)
        # Of a kernel that is flattened into the columns, the target says where it is.
        flattened = not kernel and found == (target[0], math.prod(target[1:])) and target[1] % c == 0
        return target if flattened else as_target(found, target)

    @classmethod
    def init(
        cls,
        weight: "Tensor",
        *,
        rank: int,
        alpha: float,
        generator: "torch.Generator | None" = None,
        factor: int = -1,
        tucker: bool = False,
        decompose_both: bool = False,
        full_matrix: bool = False,
    ) -> "LoKr":
        """As LyCORIS: w1 is the smaller part, `factor` at most, or near the square root (-1); a part is factored where that has
        fewer numbers (rank below half its longer side), w1 only with `decompose_both`, none with `full_matrix`. Uniform as torch
        draws a Linear, and w2, or its w2_b, zero."""
        out, columns, *kernel = weight.shape
        (a, b), (c, d) = factorized(out, factor), factorized(columns, factor)
        core = tucker and math.prod(kernel) > 1
        uniform = drawn(weight, generator)

        def zeros(*shape: int) -> "Tensor":
            return torch.zeros(shape, device=weight.device)

        parts: dict[str, Tensor] = {}
        if decompose_both and not full_matrix and 2 * rank < max(a, c):
            parts |= {"w1_a": uniform(a, rank), "w1_b": uniform(rank, c)}
        else:
            parts["w1"] = uniform(a, c)
        if full_matrix or 2 * rank >= max(b, d):
            parts["w2"] = zeros(b, d, *kernel)
        elif core:
            parts |= {"w2_a": uniform(rank, b), "w2_b": zeros(rank, d), "t2": uniform(rank, rank, *kernel)}
        else:
            parts |= {"w2_a": uniform(b, rank), "w2_b": zeros(rank, d * math.prod(kernel))}
        both_full = {"w1", "w2"} <= parts.keys()  # then alpha says nothing, and LyCORIS writes the rank
        return cls(**parts, alpha=torch.tensor(float(rank if both_full else alpha)))

    def delta(self, weight: "Tensor") -> "Tensor":
        return self._matrix().to(weight.device).reshape(weight.shape)

    def _matrix(self) -> "Tensor":
        """[out, in·kernel] float32. The kernel is the last of the columns on both sides, so flat matrices multiply as they are."""
        down, up = self._second()
        return torch.kron(self._first(), up @ down if down is not None else up)

    def _first(self) -> "Tensor":
        """multiplier · w1, [a, c] float32: the smallest place for the scale."""
        w1 = self.w1.float() if self.w1 is not None else _given(self.w1_a).float() @ _given(self.w1_b).float()
        return w1 * self.multiplier

    def _second(self) -> "tuple[Tensor | None, Tensor]":
        """w2 as (down [rank, d·kernel], up [b, rank]), or (None, w2 [b, d·kernel]) where it is full; float32."""
        if self.w2 is not None:
            return None, self.w2.float().flatten(1)
        up, down = _given(self.w2_a).float(), _given(self.w2_b).float().flatten(1)
        if self.t2 is None:
            return down, up
        return torch.einsum("ij...,jq->iq...", self.t2.float(), down).flatten(1), up.t().contiguous()

    def factors(self, shape: Shape) -> "tuple[Tensor, Tensor]":
        """kron(up1 down1, up2 down2) = kron(up1, up2) kron(down1, down2): the ranks multiply, up to the weight's shorter side."""
        if self._ranks(shape) >= min(shape[0], math.prod(shape[1:])):
            return whole(self._matrix())
        first, (low, high) = self._first(), self._second()
        down2, up2 = whole(high) if low is None else (low, high)
        if self.w1_a is not None and self.w1_b is not None and len(self.w1_b) < min(first.shape):
            down1, up1 = self.w1_b.float(), self.w1_a.float() * self.multiplier
        else:
            down1, up1 = whole(first)
        return kron(down1, down2), kron(up1, up2)

    def _ranks(self, shape: Shape) -> int:
        """Of `factors`, from shapes alone."""
        a, c = (len(_given(self.w1_a)), _given(self.w1_b).shape[1]) if self.w1 is None else self.w1.shape
        b, d = shape[0] // a, math.prod(shape[1:]) // c
        first = min(a, c) if self.w1_b is None else min(a, c, len(self.w1_b))
        return first * (min(b, d) if self.w2_b is None else len(self.w2_b))

    def thin(self, shape: Shape) -> "tuple[Tensor, Tensor, float] | None":
        if self._ranks(shape) * (shape[0] + math.prod(shape[1:])) >= math.prod(shape):
            return None
        return (*self.factors(shape), 1.0)

    def by_alpha(self) -> "LoKr":
        """Where both parts are full alpha says nothing: the scale goes into w1."""
        if self.rank is not None:
            return super().by_alpha()
        alpha = torch.tensor(1.0, dtype=torch.float32) if self.alpha is None else self.alpha
        return replace(self, w1=self.w1 if self.multiplier == 1 else self._first(), alpha=alpha, scale=None, scalar=None)

    def cut(self, rank: int) -> "LoKr | None":
        """Every factored part with its first ranks; None where both are full."""
        if self.rank is None:
            return None
        if rank >= max(len(b) for b in (self.w1_b, self.w2_b) if b is not None):
            return self
        cut: dict[str, Tensor] = {}
        if self.w1_a is not None and self.w1_b is not None:
            cut |= {"w1_a": self.w1_a[:, :rank], "w1_b": self.w1_b[:rank]}
        if self.w2_a is not None and self.w2_b is not None:
            cut |= {"w2_a": self.w2_a[:, :rank] if self.t2 is None else self.w2_a[:rank], "w2_b": self.w2_b[:rank]}
        if self.t2 is not None:
            cut["t2"] = self.t2[:rank, :rank]
        return replace(self.unscaled(), **cut, scale=torch.tensor(self.multiplier, dtype=torch.float32))

    def weighed(self, ranks: "Tensor") -> "LoKr | None":
        """The ranks that alpha is divided by: w2's, or w1's where w2 is full; None where both are."""
        if self.rank is None:
            return None
        name = "w1_b" if self.w2_b is None else "w2_b"
        return replace(self, **{name: by_rank(getattr(self, name), ranks)})

    def bound(self, weight: "Tensor") -> "LoKr":
        """In the weight's dtype, with w1 multiplied out and scaled."""
        return replace(self.unscaled(), w1=self._first(), w1_a=None, w1_b=None).map(lambda tensor: tensor.to(weight.dtype))

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        """w2 on each of the c groups of x's channels, then w1 across the groups: in·b·(1 + a/d) products a pixel instead of in·out."""
        w1 = self._first().to(x)
        if isinstance(layer, torch.nn.Conv2d):
            count, groups = len(x), w1.shape[1]
            inner = self._convolved(layer, x.reshape(count * groups, -1, *x.shape[2:]))
            added = (w1 @ inner.reshape(count, groups, -1)).reshape(count, -1, *inner.shape[2:])
        else:
            inner = x.reshape(*x.shape[:-1], w1.shape[1], -1)
            down, up = self._second()
            if down is not None:
                inner = torch.nn.functional.linear(inner, down.to(x))
            added = (w1 @ torch.nn.functional.linear(inner, up.to(x))).flatten(-2)
        return added if self.bias is None else added + along(self.bias.to(x), layer)

    def _convolved(self, layer: "Conv2d", x: "Tensor") -> "Tensor":
        """w2(x) for x [n·c, d, h, w]; the kernel walks as the layer's own."""
        kernel = layer.kernel_size
        if self.w2 is not None:
            return like(layer, x, self.w2.to(x).reshape(len(self.w2), -1, *kernel))
        w2_a, w2_b = _given(self.w2_a).to(x), _given(self.w2_b).to(x)
        if self.t2 is None:
            return torch.nn.functional.conv2d(like(layer, x, w2_b.reshape(len(w2_b), -1, *kernel)), w2_a[..., None, None])
        inner = like(layer, torch.nn.functional.conv2d(x, w2_b[..., None, None]), self.t2.to(x))
        return torch.nn.functional.conv2d(inner, w2_a.t()[..., None, None])

    def rows(self, start: int, stop: int) -> Adapter:
        """A LoKr of whole blocks of b rows, or of rows inside one of them; the rows themselves (`Full`) where they go across."""
        b = len(self.w2) if self.w2 is not None else _given(self.w2_a).shape[0 if self.t2 is None else 1]
        blocks = slice(start // b, -(-stop // b))
        inside = slice(start - blocks.start * b, stop - blocks.start * b)
        cut = {"w1": self.w1[blocks]} if self.w1 is not None else {"w1_a": _given(self.w1_a)[blocks]}
        bias = None if self.bias is None else self.bias[start:stop]
        if blocks.stop - blocks.start > 1 and (start % b or stop % b):
            return Full(diff=replace(self, **cut)._matrix()[inside], bias=bias)
        if start % b or stop % b:
            if self.w2 is not None:
                cut["w2"] = self.w2[inside]
            else:
                cut["w2_a"] = _given(self.w2_a)[inside] if self.t2 is None else _given(self.w2_a)[:, inside]
        return replace(self, **cut, bias=bias)


def factorized(dimension: int, factor: int = -1) -> tuple[int, int]:
    """(smaller, larger) with smaller · larger = dimension, as LyCORIS chooses them: `factor` itself where it divides, else the largest
    divisor up to it, or, for -1, the one nearest to the square root."""
    if factor > 0 and dimension % factor == 0:
        smaller = min(factor, dimension // factor)
    else:
        most = dimension if factor < 0 else factor
        smaller = max(each for each in range(1, math.isqrt(dimension) + 1) if dimension % each == 0 and each <= max(1, most))
    return smaller, dimension // smaller


def _parts(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of the matrices by field name."""
    return {suffix.removeprefix("lokr_"): shape for suffix, shape in shapes.items() if suffix.startswith("lokr_")}


def _given(part: "Tensor | None") -> "Tensor":
    """The forms of the class (`check`) have no part without its partner."""
    assert part is not None
    return part


def kron(first: "Tensor", second: "Tensor") -> "Tensor":
    """torch.kron of two matrices; its own fails on a transposed one with a single row (torch 2.13: "view size is not compatible")."""
    product = first[:, None, :, None] * second[None, :, None, :]
    return product.reshape(len(first) * len(second), first.shape[1] * second.shape[1])
