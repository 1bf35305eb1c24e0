"""What an adapter is: a frozen dataclass of tensors, the change that one file makes to one target module.

A field declares its file suffix once, with `key`; reading, writing, detection, moving and the list of trainable tensors
follow from the fields. Subclasses write the mathematics only. torch is bound here, lazily: recognising a file needs shapes.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from loraloom.errors import BadTensor, LoraError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Shape = tuple[int, ...]
MAX_RANK = 4096  # what is read from a stranger; the largest layers of today's models are 3 to 5 times as wide


class NotExact(LoraError):
    """This part of an adapter cannot be written as an adapter of the same type."""


def key(suffix: str, *, optional: bool = False, number: bool = False, integer: bool = False) -> Any:
    """A tensor field: `suffix` is its name in files after the module's name. Optional fields may be None.

    A `number` (alpha and its like) has one element, is held as a float32 scalar, and training does not change it. An `integer`
    tensor (places, sizes) is neither cast nor trained.
    """
    metadata = {"suffix": suffix, "number": number, "integer": integer}
    return field(default=None if optional else MISSING, kw_only=True, metadata=metadata)


def as_target(found: Shape, target: Shape) -> Shape:
    """`target` where `found` is the same matrix: a Linear file on a 1×1 convolution and the reverse are common in SD 1.x and 2.x."""
    same = len(found) != len(target) and found[:2] == target[:2] and math.prod(found) == math.prod(target)
    return target if same else found


@dataclass(frozen=True, eq=False)
class Adapter(ABC):
    """The change for one target module. W is the base weight, [out, in, *kernel]; every result is linear in the strength."""

    name: ClassVar[str]  # the field's word for this type: "lora", "loha", ...
    kinds: ClassVar[frozenset[str]] = frozenset({"linear", "conv"})  # of modules that this type can change
    reads_weight: ClassVar[bool] = False  # whether the delta depends on the base weight's values
    late: ClassVar[frozenset[str]] = frozenset()  # the fields that `init` leaves 0 beside others, as LoRA's up: what LoRA+ trains faster
    undecayed: ClassVar[frozenset[str]] = frozenset()  # the fields that change nothing at another value than 0: no weight decay
    unwritable: ClassVar[str] = ""  # what a file of these tensors alone could not say, for types that are only read

    bias: "Tensor | None" = key("diff_b", optional=True)  # [out], added to the module's bias

    @classmethod
    @cache
    def suffixes(cls) -> Mapping[str, str]:
        """Field name by file suffix."""
        return {item.metadata["suffix"]: item.name for item in fields(cls) if item.metadata}

    @classmethod
    @cache
    def numbers(cls) -> frozenset[str]:
        """The suffixes that hold one number each."""
        return frozenset(item.metadata["suffix"] for item in fields(cls) if item.metadata.get("number"))

    @classmethod
    @cache
    def integers(cls) -> frozenset[str]:
        """The suffixes that hold places or sizes."""
        return frozenset(item.metadata["suffix"] for item in fields(cls) if item.metadata.get("integer"))

    @classmethod
    @cache
    def required(cls) -> frozenset[str]:
        """The suffixes without which a file has no adapter of this type."""
        return frozenset(item.metadata["suffix"] for item in fields(cls) if item.metadata and item.default is MISSING)

    @classmethod
    def accepts(cls, shapes: Mapping[str, Shape]) -> bool:
        """Whether these suffixes, with these shapes, are this type: all required ones are there and no foreign one."""
        return cls.required() <= shapes.keys() <= cls.suffixes().keys()

    @classmethod
    def from_tensors(cls, tensors: "Mapping[str, Tensor]") -> Self:
        """Build from tensors by suffix; raises what `check` raises."""
        cls.check({suffix: tuple(tensor.shape) for suffix, tensor in tensors.items()})
        names, numbers = cls.suffixes(), cls.numbers()
        return cls(**{names[suffix]: tensor.reshape(()).float() if suffix in numbers else tensor for suffix, tensor in tensors.items()})

    @classmethod
    def settled(cls, tensors: "Mapping[str, Tensor]", target: Shape, file: Iterable[Mapping[str, Shape]] = ()) -> "Mapping[str, Tensor]":
        """The tensors under the names that `from_tensors` expects, where only the weight's shape, or the shapes of the file's other
        modules, tell which they have: a type's older layout."""
        return tensors

    def tensors(self) -> "dict[str, Tensor]":
        """Tensors by file suffix; `from_tensors` of it is the same adapter."""
        found = {suffix: getattr(self, name) for suffix, name in self.suffixes().items()}
        return {suffix: tensor for suffix, tensor in found.items() if tensor is not None}

    def trainable(self) -> "dict[str, Tensor]":
        """The tensors that training changes, by field name."""
        fixed = self.numbers() | self.integers()
        found = {name: getattr(self, name) for suffix, name in self.suffixes().items() if suffix not in fixed}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def with_tensors(self, tensors: "Mapping[str, Tensor]") -> Self:
        """The same adapter with some tensors replaced, by field name."""
        return replace(self, **tensors)

    def map(self, fn: "Callable[[Tensor], Tensor]") -> Self:
        """`fn` applied to every tensor: moving, casting, detaching, cloning."""
        return replace(self, **{name: fn(value) for name in self.suffixes().values() if (value := getattr(self, name)) is not None})

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors().values())

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        """Raises BadTensor where the shapes of an accepted file contradict one another, LimitExceeded for a rank beyond ours."""
        for suffix in cls.numbers() & shapes.keys():
            if any(length != 1 for length in shapes[suffix]):
                raise BadTensor(f"{cls.name}: {suffix} is one number, not {list(shapes[suffix])}")
        if len(shapes.get("diff_b", (1,))) != 1:
            raise BadTensor(f"{cls.name}: diff_b is a bias, one number for each output, not {list(shapes['diff_b'])}")

    @classmethod
    def refusal(cls, kind: str, shapes: Mapping[str, Shape]) -> str | None:
        """Why tensors of these suffixes change no module of this kind, or None."""
        if kind not in cls.kinds:
            return f"{cls.name} does not change a module of the kind {kind}"
        return "an embedding has no bias to change" if kind == "embedding" and "diff_b" in shapes else None

    @classmethod
    def misfit(cls, shapes: Mapping[str, Shape], target: Shape) -> str | None:
        """Why checked tensors of these shapes do not fit a weight of shape `target`, or None."""
        given = cls.delta_shape(shapes, target)
        if given != target:
            return f"the adapter gives {list(given)}, the module has {list(target)}"
        if "diff_b" in shapes and shapes["diff_b"] != target[:1]:
            return f"diff_b {list(shapes['diff_b'])} is not the bias of {target[0]} outputs"
        return None

    @classmethod
    @abstractmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        """Shape of the delta that checked tensors give on a weight of shape `target`; equal to it if they fit."""

    @classmethod
    @abstractmethod
    def init(cls, weight: "Tensor", *, rank: int, alpha: float, generator: "torch.Generator | None" = None) -> Self:
        """A fresh float32 adapter for training: its delta is exactly 0, its gradients are not."""

    @abstractmethod
    def delta(self, weight: "Tensor") -> "Tensor":
        """The change of `weight` at strength 1; float32, weight's shape and device."""

    def bias_delta(self, bias: "Tensor") -> "Tensor | None":
        """The change of the module's bias at strength 1, float32, or None."""
        return None if self.bias is None else self.bias.to(bias.device, torch.float32)

    @abstractmethod
    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        """What strength 1 adds to y = layer(x), y's shape, the bias's change included; computed in the dtype of x."""

    def bound(self, weight: "Tensor") -> "Adapter":
        """An adapter of the same delta on this very weight whose `branch` is cheap: what depends on the weight, and what would be
        worked out at every call, is worked out once. The adapter itself where nothing is."""
        return self

    def factors(self, shape: Shape) -> "tuple[Tensor, Tensor] | None":
        """Exact float32 (down [r, in·kernel], up [out, r]) with up @ down = delta for a weight of `shape`, or None."""
        return None

    def thin(self, shape: Shape) -> "tuple[Tensor, Tensor, float] | None":
        """`factors` as (down, up, factor) with delta = factor · up @ down: the file's own tensors in its own dtype where they are
        factors already, so that nothing is copied. None too where they have so many ranks that they are no thinner than the weight."""
        pair = self.factors(shape)
        if pair is None or pair[0].numel() + pair[1].numel() >= math.prod(shape):
            return None
        return (*pair, 1.0)

    def scaling(self) -> tuple[int, float] | None:
        """(rank, what multiplies the product: alpha/rank), or None for types without a rank."""
        return None

    def by_alpha(self) -> Self:
        """The same delta with alpha as its only number, and with one where the type has it: not every tool reads a `scale` and a `scalar`,
        or a file without alpha."""
        return self

    def cut(self, rank: int) -> "Adapter | None":
        """The adapter with its first `rank` ranks only, its scale kept; None for types without ranks of their own."""
        return None

    def weighed(self, ranks: "Tensor") -> "Self | None":
        """The adapter with each rank multiplied by a number, `ranks` [rank]; differentiable. None for types without ranks of their own."""
        return None

    @property
    def degree(self) -> int:
        """How many of its tensors multiply one another: all of them times c are the delta times c**degree. 0 where that is not so."""
        return 0

    def shrunk(self, ratio: float) -> Self:
        """The adapter of `ratio` times this delta, shared evenly by the tensors; its bias stays. For types with a degree."""
        share = ratio ** (1 / self.degree)
        return self.with_tensors({name: tensor * share for name, tensor in self.trainable().items() if name != "bias"})

    def rows(self, start: int, stop: int) -> "Adapter":
        """The adapter of output rows start..stop of a fused weight; raises NotExact where there is none."""
        raise NotExact(f"{self.name}: rows {start} to {stop} of a fused weight cannot be cut out of this type")
