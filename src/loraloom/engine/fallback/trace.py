"""Which tensors of a file a converted tensor was made of. Converters of diffusers rename, split, scale and drop, and do not say what.

Imported where it is used: a tensor type needs torch itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class Traced(Tensor):
    """A tensor that knows the file's keys behind it. What is computed from it knows them too."""

    keys: frozenset[str] = frozenset()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        keys = frozenset[str]().union(*(tensor.keys for tensor in _traced((args, kwargs))))
        for tensor in _traced(result):
            tensor.keys = keys | tensor.keys
        return result


def traced(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each knowing its key."""
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        known = tensor.as_subclass(Traced)
        known.keys = frozenset((key,))
        found[key] = known
    return found


def keys_of(tensors: Iterable[Tensor]) -> frozenset[str]:
    """The file's keys of which these were made."""
    return frozenset[str]().union(*(tensor.keys for tensor in _traced(tuple(tensors))))


def plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(torch.Tensor)


def _traced(value: Any) -> Iterable[Traced]:
    if isinstance(value, Traced):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _traced(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _traced(item)
