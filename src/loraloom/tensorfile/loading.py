"""A file's tensors: mapped from the disk one by one, or loaded into memory of our own."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from loraloom.errors import BadTensor, FileError
from loraloom.lazy import torch
from loraloom.tensorfile.decoding import Entry
from loraloom.tensorfile.dtypes import BYTES, TORCH
from loraloom.tensorfile.header import Header
from loraloom.tensorfile.opening import CHUNK, readable, stamp_of

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST = (2 - 2**-23) * 2.0**127  # of float32


@contextmanager
def open_tensors(header: Header) -> "Iterator[Mapping[str, Tensor]]":
    """The file's tensors by name, each mapped from disk when it is asked for, on the CPU, in the file's dtype.

    A mapped tensor changes when another program writes into the file: clone what outlives the `with`.
    """
    try:
        mapped = torch.from_file(str(header.path), shared=False, size=header.file_size, dtype=torch.uint8)
        if stamp_of(header.path.stat()) != header.stamp:
            raise FileError(f"{header.path}: was changed while it was read; try again")
    except (OSError, RuntimeError) as error:  # torch's own mapping raises RuntimeError
        raise FileError(f"{header.path}: cannot be read: {error}") from error
    yield _Tensors(header, mapped)


class _Tensors(Mapping[str, "Tensor"]):
    def __init__(self, header: Header, mapped: "Tensor") -> None:
        self._header, self._mapped = header, mapped

    def __getitem__(self, name: str) -> "Tensor":
        return _view(self._mapped, self._header.data_start, self._header.entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.entries)

    def __len__(self) -> int:
        return len(self._header.entries)


def load_tensors(header: Header, names: Iterable[str]) -> "dict[str, Tensor]":
    """These tensors on the CPU, in the file's dtype, in memory of our own: nobody who writes into the file can change them.

    Neighbours of one dtype are read at once and share one storage of at most 1 MB, which takes a tenth of the time of reading each
    for itself; nothing else of the file is read. Raises BadTensor for a value that is not usable (`is_usable`).
    """
    runs: list[list[str]] = []
    start, stop, dtype = -1, -1, ""
    for name in sorted(names, key=lambda name: (header.entries[name].start, header.entries[name].stop)):
        entry = header.entries[name]
        if entry.start != stop or entry.dtype != dtype or entry.stop - start > CHUNK:
            runs.append([])
            start, dtype = entry.start, entry.dtype
        runs[-1].append(name)
        stop = entry.stop
    found: dict[str, Tensor] = {}
    with readable(header.path) as file:
        for run in runs:
            found |= _load_run(header, run, file)
        if stamp_of(os.fstat(file.fileno())) != header.stamp:
            raise FileError(f"{header.path}: was changed while it was read; try again")
    return found


def _load_run(header: Header, names: list[str], file: IO[bytes]) -> "dict[str, Tensor]":
    """Tensors of one dtype that lie one after another."""
    start, stop = header.entries[names[0]].start, header.entries[names[-1]].stop
    storage = torch.empty(stop - start, dtype=torch.uint8)
    file.seek(header.data_start + start)
    if file.readinto(storage.numpy().data) != len(storage):  # type: ignore[attr-defined]
        raise FileError(f"{header.path}: was cut short while it was read; try again")
    dtype = header.entries[names[0]].dtype
    if dtype not in ("F16", "BF16", "F32", "F64"):
        found = {name: _view(storage, -start, header.entries[name]) for name in names}
    else:  # the usual case, in a third of the calls: one look at all values, one step to each tensor
        whole = storage.view(getattr(torch, TORCH[dtype]))
        shapes = [header.entries[name].shape for name in names]
        parts = torch.split_with_sizes(whole, [math.prod(shape) for shape in shapes])
        found = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        if len(whole) and all(is_usable(value.item()) for value in torch.aminmax(whole)):
            return found
    for name, tensor in found.items():
        require_finite(header.path, name, tensor)
    return found


def _view(storage: "Tensor", origin: int, entry: Entry) -> "Tensor":
    """The entry's tensor in bytes of which number `origin` is the first of the file's data."""
    part = storage[origin + entry.start : origin + entry.stop]
    if (origin + entry.start) % BYTES[entry.dtype]:
        part = part.clone()  # a view must begin at a multiple of its elements
    return part.view(getattr(torch, TORCH[entry.dtype])).view(entry.shape)


def is_usable(value: float) -> bool:
    """Whether a float32, which everything is computed in, can hold it: NaN, infinity and large values of F64 are not."""
    return abs(value) <= _LARGEST  # False for NaN


def require_finite(path: Path, key: str, tensor: "Tensor") -> None:
    """Raises BadTensor if a value of the file's tensor `key` is not usable (`is_usable`)."""
    if tensor.numel() == 1:
        extremes = [tensor.item()]
    else:
        wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # torch has no aminmax for float8
        extremes = [value.item() for value in torch.aminmax(wide)] if tensor.numel() else []
    if not all(map(is_usable, extremes)):
        what = "values that float32 cannot hold" if all(map(math.isfinite, extremes)) else "NaN or infinite values"
        raise BadTensor(
            f"{path.name}: {key} holds {what}; the training went wrong: use an earlier epoch, or let `loraloom convert` repair it",
            fields=("repair",),
        )
