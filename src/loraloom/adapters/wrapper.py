"""Types that wrap any other: their tensors stand beside the inner type's, under the same name of a module."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from loraloom.adapters.base import Adapter, Shape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Wrapper(Adapter):
    """An adapter around `inner`. `around` makes the class for one inner type. A bias is the inner one's."""

    inner_type: ClassVar[type[Adapter]]
    tag: ClassVar[str]  # what it adds to the inner type's name: "lora+dora"

    inner: Adapter = field(kw_only=True)

    @classmethod
    @cache
    def around(cls, kind: type[Adapter]) -> type[Self]:
        members: dict[str, Any] = {"inner_type": kind, "name": f"{kind.name}+{cls.tag}", "kinds": kind.kinds - {"norm", "embedding"}}
        members |= {"reads_weight": cls.reads_weight or kind.reads_weight, "undecayed": cls.undecayed | kind.undecayed, "late": kind.late}
        members |= {"unwritable": kind.unwritable}
        made: type[Self] = type(f"{cls.__name__}Of{kind.__name__}", (cls,), members)
        return made

    @classmethod
    def of(cls, inner: Adapter, **tensors: "Tensor") -> Self:
        """The wrapper of this inner adapter's type, with its own tensors by field name."""
        return cls.around(type(inner))(inner=inner, **tensors)

    @classmethod
    @cache
    def own(cls) -> Mapping[str, str]:
        """Field name by suffix, of the wrapper's own tensors."""
        return {suffix: name for suffix, name in super().suffixes().items() if name != "bias"}

    @classmethod
    @cache
    def suffixes(cls) -> Mapping[str, str]:
        return {**cls.inner_type.suffixes(), **cls.own()}

    @classmethod
    @cache
    def numbers(cls) -> frozenset[str]:
        return cls.inner_type.numbers() | super().numbers()

    @classmethod
    @cache
    def integers(cls) -> frozenset[str]:
        return cls.inner_type.integers() | super().integers()

    @classmethod
    @cache
    def required(cls) -> frozenset[str]:
        return cls.inner_type.required() | super().required()

    @classmethod
    def accepts(cls, shapes: Mapping[str, Shape]) -> bool:
        own = cls.own().keys()
        return own <= shapes.keys() and cls.inner_type.accepts(cls._rest(shapes))

    @classmethod
    def _rest(cls, by_suffix: Mapping[str, Any]) -> dict[str, Any]:
        """What is the inner type's."""
        return {suffix: value for suffix, value in by_suffix.items() if suffix not in cls.own()}

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        cls.inner_type.check(cls._rest(shapes))

    @classmethod
    def from_tensors(cls, tensors: "Mapping[str, Tensor]") -> Self:
        cls.check({suffix: tuple(tensor.shape) for suffix, tensor in tensors.items()})
        inner = cls.inner_type.from_tensors(cls._rest(tensors))
        return cls(inner=inner, **{name: tensors[suffix] for suffix, name in cls.own().items()})

    @classmethod
    def settled(cls, tensors: "Mapping[str, Tensor]", target: Shape, file: Iterable[Mapping[str, Shape]] = ()) -> "Mapping[str, Tensor]":
        return {**tensors, **cls.inner_type.settled(cls._rest(tensors), target, file)}

    @classmethod
    def misfit(cls, shapes: Mapping[str, Shape], target: Shape) -> str | None:
        return cls.inner_type.misfit(cls._rest(shapes), target)

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        return cls.inner_type.delta_shape(cls._rest(shapes), target)

    def tensors(self) -> "dict[str, Tensor]":
        return {**self.inner.tensors(), **{suffix: getattr(self, name) for suffix, name in self.own().items()}}

    def trainable(self) -> "dict[str, Tensor]":
        own = {name: getattr(self, name) for suffix, name in self.own().items() if suffix not in self.integers()}
        return {**self.inner.trainable(), **own}

    def with_tensors(self, tensors: "Mapping[str, Tensor]") -> Self:
        own = set(self.own().values())
        inner = self.inner.with_tensors({name: tensor for name, tensor in tensors.items() if name not in own})
        return replace(self, inner=inner, **{name: tensor for name, tensor in tensors.items() if name in own})

    def map(self, fn: "Callable[[Tensor], Tensor]") -> Self:
        return replace(self, inner=self.inner.map(fn), **{name: fn(getattr(self, name)) for name in self.own().values()})

    def bias_delta(self, bias: "Tensor") -> "Tensor | None":
        return self.inner.bias_delta(bias)

    def scaling(self) -> tuple[int, float] | None:
        return self.inner.scaling()

    def weighed(self, ranks: "Tensor") -> "Self | None":
        inner = self.inner.weighed(ranks)
        return None if inner is None else replace(self, inner=inner)

    @property
    def degree(self) -> int:
        """Of the inner delta, before what the wrapper makes of it."""
        return self.inner.degree

    def shrunk(self, ratio: float) -> Self:
        return replace(self, inner=self.inner.shrunk(ratio))

    def by_alpha(self) -> Self:
        return replace(self, inner=self.inner.by_alpha())

    def cut(self, rank: int) -> "Adapter | None":
        inner = self.inner.cut(rank)
        return None if inner is None else replace(self, inner=inner)
