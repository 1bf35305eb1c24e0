"""Adapter types: the mathematics. A type is one file here and one name in `TYPES`; the README says how."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loraloom.adapters.base import Adapter, NotExact, Shape, key
from loraloom.adapters.lora import LoRA
from loraloom.errors import UnknownFormat

if TYPE_CHECKING:
    from torch import Tensor

TYPES: tuple[type[Adapter], ...] = (LoRA,)
SUFFIXES: frozenset[str] = frozenset(suffix for kind in TYPES for suffix in kind.keys())


def adapter_type(shapes: Mapping[str, Shape]) -> type[Adapter] | None:
    """The one type that accepts tensors of these names and shapes, or None."""
    return next((kind for kind in TYPES if kind.accepts(shapes)), None)


def read_adapter(tensors: "Mapping[str, Tensor]") -> Adapter:
    """The adapter that these tensors, by suffix, are; raises UnknownFormat, naming keys and shapes."""
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in tensors.items()}
    kind = adapter_type(shapes)
    if kind is None:
        listed = ", ".join(f"{suffix} {list(shape)}" for suffix, shape in sorted(shapes.items()))
        raise UnknownFormat(f"no adapter type has the tensors {listed}")
    return kind.from_tensors(tensors)


__all__ = ["SUFFIXES", "TYPES", "Adapter", "LoRA", "NotExact", "Shape", "adapter_type", "key", "read_adapter"]
