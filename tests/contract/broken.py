"""Adapters with one tensor of a shape that it never has, and files of them: every type, every suffix, every shape, every dialect."""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path

from cases import CASES, takes

from loraloom.bases import Base, Layer
from loraloom.dialects import Dialect
from loraloom.dialects.base import SPELLINGS

Shape = tuple[int, ...]
File = dict[str, tuple[str, Shape]]  # dtype and shape by key
Job = tuple[str, str, Shape, int]  # case, broken suffix, its shape, which spelling

BYTES = {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "U8": 1, "BOOL": 1}
# No dimension, one to six of them, empty, and lengths whose product or whose own value is beyond 64 bits: a file may claim those where
# another length is 0.
SHAPES: tuple[Shape, ...] = (
    *((), (0,), (1,), (7,), (16,)),
    *((0, 0), (1, 1), (4, 16), (16, 4)),
    *((4, 4, 4), (0, 4, 4), (4, 4, 4, 4), (4, 0, 1, 1), (1,) * 5, (2,) * 5, (0,) * 6, (4, 4, 1, 1, 1, 1)),
    *((2**40, 0), (2**63, 0), (0, 2**63), (10**30, 0), (4, 2**31, 0, 2**31)),
)


@cache
def whole(name: str, target: Shape) -> Mapping[str, tuple[str, Shape]]:
    """dtype and shape by our suffix of a case's adapter for a weight of this shape."""
    tensors = CASES[name](target).tensors()
    return {suffix: ("F32" if tensor.is_floating_point() else "I64", tuple(tensor.shape)) for suffix, tensor in tensors.items()}


@cache
def suffixes(name: str) -> Sequence[str]:
    """All that an adapter of this case has or may have."""
    return sorted(type(CASES[name]((4,) if name.startswith("norm") else (4, 4))).suffixes())


def broken(name: str, target: Shape, suffix: str, shape: Shape) -> dict[str, tuple[str, Shape]]:
    """`whole` with one tensor of another shape, or one more tensor."""
    own = whole(name, target)
    return {**own, suffix: (own.get(suffix, ("F32", ()))[0], shape)}


def packed(dialect: Dialect, base: Base, names: Sequence[str]) -> Iterator[File]:
    """Every broken adapter of these cases on layers of every kind but embeddings, in as few files as the base's layers allow."""
    for number in count():
        file: File = {}
        for kind in ("linear", "conv", "norm"):
            layers = [layer for layer in base.layers if layer.kind == kind and dialect.spell(layer, base)]
            jobs = [job for name in names if kind in takes(name) for job in _jobs(name)]
            for layer, job in zip(layers, jobs[number * len(layers) :], strict=False):
                file |= _entries(dialect, base, layer, job)
        if not file:
            return
        yield file


@cache
def _jobs(name: str) -> Sequence[Job]:
    tried = [(suffix, shape) for suffix in suffixes(name) for shape in SHAPES]
    return [(name, suffix, shape, number) for number, (suffix, shape) in enumerate(tried)]


def _entries(dialect: Dialect, base: Base, layer: Layer, job: Job) -> File:
    name, suffix, shape, number = job
    prefix = dialect.spell(layer, base)[0]
    endings = {each: _endings(dialect, each) for each in suffixes(name)}
    return {
        f"{prefix}{dialect.separator}{endings[each][number % len(endings[each])]}": entry
        for each, entry in broken(name, layer.shape, suffix, shape).items()
    }


@cache
def _endings(dialect: Dialect, suffix: str) -> Sequence[str]:
    """Every way in which files say this suffix."""
    return [suffix, *(theirs for theirs, ours in (dict(SPELLINGS) | dict(dialect.suffixes)).items() if ours == suffix)]


def put(path: Path, file: File, metadata: Mapping[str, object] | None = None) -> Path:
    """Zeros for every tensor, as a hole on the disk."""
    described: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for key, (dtype, shape) in file.items():
        stop = position + math.prod(shape) * BYTES[dtype]
        described[key] = {"dtype": dtype, "shape": shape, "data_offsets": (position, stop)}
        position = stop
    text = json.dumps(described).encode()
    with path.open("wb") as content:
        content.write(struct.pack("<Q", len(text)) + text)
        content.truncate(8 + len(text) + position)
    return path
