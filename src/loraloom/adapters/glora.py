"""GLoRA: delta = (alpha/r) · (W a1 a2 + b1 b2).  Chavan et al. 2023, arXiv:2306.07967, as LyCORIS has it.

Inside, the layout is that of LyCORIS from 3.0: a1 [in, r], a2 [r, in], b1 [out, r], b2 [r, in, *kernel]. Files of before have
the names of each pair exchanged (a1 [r, in], a2 [in, r], b1 [r, in], b2 [out, r]): shapes tell, but for a square layer, where
`settled` asks the target and the file's other modules.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from loraloom.adapters.base import MAX_RANK, Shape, as_target, key
from loraloom.adapters.like import along, like
from loraloom.adapters.scaled import Scaled, by_rank, drawn
from loraloom.errors import BadTensor, LimitExceeded
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_Value = TypeVar("_Value")
_EXCHANGED = {"a1.weight": "a2.weight", "a2.weight": "a1.weight", "b1.weight": "b2.weight", "b2.weight": "b1.weight"}


@dataclass(frozen=True, eq=False)
class GLoRA(Scaled):
    name: ClassVar[str] = "glora"
    late: ClassVar[frozenset[str]] = frozenset({"a2", "b2"})
    reads_weight: ClassVar[bool] = True

    a1: "Tensor" = key("a1.weight")  # [in, rank], on convolutions [in, rank, 1, 1]
    a2: "Tensor" = key("a2.weight")  # [rank, in]
    b1: "Tensor" = key("b1.weight")  # [out, rank]
    b2: "Tensor" = key("b2.weight")  # [rank, in, *kernel]; with bm: [rank, in, 1, 1]
    bm: "Tensor | None" = key("bm.weight", optional=True)  # [rank, rank, *kernel], the Tucker core between b1 and b2
    moved: "Tensor | None" = field(default=None, kw_only=True)  # W a1 [out, rank, *kernel], where it was worked out for one weight

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        new, old = _is_new(shapes), _is_new(exchanged(shapes))
        if not (new or old):
            listed = ", ".join(f"{suffix} {list(shapes[suffix])}" for suffix in (*_EXCHANGED, "bm.weight") if suffix in shapes)
            raise BadTensor(f"glora: {listed} have no rank in common, neither in the new layout nor in the old")
        rank = shapes["a1.weight"][1 if new else 0]
        if rank > MAX_RANK:
            raise LimitExceeded(f"glora: rank {rank:,}, the limit is {MAX_RANK:,}")

    @classmethod
    def from_tensors(cls, tensors: "Mapping[str, Tensor]") -> Self:
        """Where the shapes say the old layout, its names are exchanged; of a square layer the new one is taken (see `settled`)."""
        shapes = {suffix: tuple(tensor.shape) for suffix, tensor in tensors.items()}
        cls.check(shapes)
        return super().from_tensors(tensors if _is_new(shapes) else exchanged(tensors))

    @classmethod
    def settled(cls, tensors: "Mapping[str, Tensor]", target: Shape, file: Iterable[Mapping[str, Shape]] = ()) -> "Mapping[str, Tensor]":
        """A square layer's tensors in the new layout: by its width, and where the rank is that too, by `file`."""
        shapes = {suffix: tuple(tensor.shape) for suffix, tensor in tensors.items()}
        if not is_square(shapes):
            return tensors
        rows, columns = shapes["a1.weight"][:2]
        old = is_old(file) if rows == columns else target[1] == columns
        return exchanged(tensors) if old else tensors

    @property
    def rank(self) -> int:
        return int(self.a1.shape[1])

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        """In the layout that the shapes have; where they have both, in that which fits the target."""
        layouts = [each for each in (shapes, exchanged(shapes)) if _is_new(each)]
        found = [as_target(_delta_shape(each), target) for each in layouts]
        return target if target in found else found[0]

    @classmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None) -> "GLoRA":
        """As LyCORIS: a1 and b1 uniform as torch draws a Linear, a2 and b2 zero."""
        out, columns, *kernel = weight.shape
        points = [1] * len(kernel)
        uniform = drawn(weight, generator)
        return cls(
            a1=uniform(columns, rank, *points),
            a2=torch.zeros(rank, columns, *points, device=weight.device),
            b1=uniform(out, rank, *points),
            b2=torch.zeros(rank, columns, *kernel, device=weight.device),
            alpha=torch.tensor(float(alpha)),
        )

    def delta(self, weight: "Tensor") -> "Tensor":
        through = torch.einsum("or...,ri->oi...", self._moved(weight), self.a2.to(weight.device).float().flatten(1))
        b1, b2 = self.b1.to(weight.device).float().flatten(1), self.b2.to(weight.device).float()
        if self.bm is not None:
            b1 = torch.einsum("om,mn...->on...", b1, self.bm.to(weight.device).float())
            beside = torch.einsum("on...,ni->oi...", b1, b2.flatten(1))
        else:
            beside = b1 @ b2.flatten(1)
        return (through + beside.reshape(weight.shape)) * self.multiplier

    def _moved(self, weight: "Tensor") -> "Tensor":
        """W a1, [out, rank, *kernel] float32."""
        return torch.einsum("oi...,ir->or...", weight.float(), self.a1.to(weight.device).float().flatten(1))

    def cut(self, rank: int) -> "GLoRA":
        """Both halves with their first ranks."""
        if rank >= self.rank:
            return self
        parts = {"a1": self.a1[:, :rank], "a2": self.a2[:rank], "b1": self.b1[:, :rank], "b2": self.b2[:rank]}
        core = None if self.bm is None else self.bm[:rank, :rank]
        return replace(self.unscaled(), **parts, bm=core, scale=torch.tensor(self.multiplier, dtype=torch.float32))

    def weighed(self, ranks: "Tensor") -> "GLoRA":
        """The ranks of both halves."""
        return replace(self, a2=by_rank(self.a2, ranks), b2=by_rank(self.b2, ranks))

    @property
    def degree(self) -> int:
        """Two tensors multiply one another in each half; a core makes them three in one and two in the other."""
        return 2 if self.bm is None else 0

    def bound(self, weight: "Tensor") -> "GLoRA":
        """In the weight's dtype, scaled, with W a1 worked out: two thin products beside the layer instead of another of its own."""
        a1, b1 = self.a1.float() * self.multiplier, self.b1.float() * self.multiplier
        scaled = replace(self.unscaled(), a1=a1, b1=b1)
        return replace(scaled.map(lambda tensor: tensor.to(weight.dtype)), moved=scaled._moved(weight).to(weight.dtype))

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        """(W a1)(a2(x)) + b1(b2(x)); the a half is a convolution at the layer's own pace, as W is."""
        weight: Tensor = layer.weight  # type: ignore[assignment]
        moved = self._moved(weight) if self.moved is None else self.moved
        moved, b1 = (moved * self.multiplier).to(x), (self.b1.float() * self.multiplier).to(x).flatten(1)
        if isinstance(layer, torch.nn.Conv2d):
            conv2d = torch.nn.functional.conv2d
            a2, b2 = self.a2.to(x).flatten(1)[..., None, None], self.b2.to(x)
            through = like(layer, conv2d(x, a2), moved.reshape(*moved.shape[:2], *layer.kernel_size))
            if self.bm is None:
                inner = like(layer, x, b2.reshape(*b2.shape[:2], *layer.kernel_size))
            else:
                inner = like(layer, conv2d(x, b2.flatten(1)[..., None, None]), self.bm.to(x))
            added = through + conv2d(inner, b1[..., None, None])
        else:
            linear = torch.nn.functional.linear
            added = linear(linear(x, self.a2.to(x).flatten(1)), moved.flatten(1))
            b2 = self.b2.to(x).flatten(1)
            inner = linear(x, b2) if self.bm is None else linear(linear(x, b2), self.bm.to(x).flatten(1))
            added = added + linear(inner, b1)
        return added if self.bias is None else added + along(self.bias.to(x), layer)

    def rows(self, start: int, stop: int) -> "GLoRA":
        """a1 and a2 are shared: the rows of W come with the weight."""
        return self.with_tensors({"b1": self.b1[start:stop], **({} if self.bias is None else {"bias": self.bias[start:stop]})})


def exchanged(by_suffix: Mapping[str, _Value]) -> dict[str, _Value]:
    """One layout's names for the other's tensors."""
    return {_EXCHANGED.get(suffix, suffix): value for suffix, value in by_suffix.items()}


def is_square(shapes: Mapping[str, Shape]) -> bool:
    """Whether these are a GLoRA whose shapes are as well one in the old layout as one in the new."""
    return GLoRA.required() <= shapes.keys() and _is_new(shapes) and _is_new(exchanged(shapes))


def is_old(file: Iterable[Mapping[str, Shape]]) -> bool:
    """Whether the file that has these groups (our suffixes and shapes) is one of the old layout.

    What is not square is certain, and one file has one layout. Without any, the rank is taken for the smaller side of a square
    layer's a1. False where nothing tells: the new layout is what LyCORIS writes today.
    """
    certain, likely = 0, 0
    for shapes in file:
        if not GLoRA.required() <= shapes.keys():
            continue
        new, old = _is_new(shapes), _is_new(exchanged(shapes))
        certain += old - new
        rows, columns = shapes["a1.weight"][:2] if new or old else (0, 0)
        likely += (columns > rows) - (rows > columns)
    return (certain or likely) > 0


def _is_new(shapes: Mapping[str, Shape]) -> bool:
    """Whether the shapes are those of the new layout."""
    a1, a2, b1, b2 = (shapes[suffix] for suffix in ("a1.weight", "a2.weight", "b1.weight", "b2.weight"))
    core = shapes.get("bm.weight")
    if min(map(len, (a1, a2, b1, b2))) < 2 or 0 in (*a1, *a2, *b1, *b2):
        return False
    inputs, rank = a1[:2]
    points = [a1, a2, b1] if core is None else [a1, a2, b1, b2]
    if any(math.prod(shape[2:]) != 1 for shape in points):
        return False
    if core is not None and (len(core) < 3 or core[:2] != (rank, rank)):
        return False
    return a2[:2] == b2[:2] == (rank, inputs) and b1[1] == rank


def _delta_shape(shapes: Mapping[str, Shape]) -> Shape:
    kernel = shapes.get("bm.weight", shapes["b2.weight"])[2:]
    return (shapes["b1.weight"][0], shapes["a1.weight"][0], *kernel)
