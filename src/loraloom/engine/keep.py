"""The base's own weights while a merge has changed them: read again from the checkpoint that they came from, or kept as a copy.

A weight is only left to the checkpoint after every bit of it was found there, so that it comes back with the bits it had, or an error
says that it does not (`docs/design/kept-base.md`). On a GPU
with room for copies they stay there: to bring SD 1.5's touched weights to an H200 takes 200 ms each time, to copy them there 4 ms.
"""

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loraloom.errors import BaseLost, FileError
from loraloom.lazy import torch
from loraloom.tensorfile import Header
from loraloom.tensorfile.held import HeldFile

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_BLOCK = 2**17  # words that are compared at once: 1 MB
_SAME_SIZE = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}


class Kept:
    """What restores one tensor: a copy, or its place in a checkpoint."""

    def __init__(self, copy: "Tensor | None", file: "Checkpoint | None" = None, name: str = "") -> None:
        self._copy, self._file, self._name = copy, file, name

    @property
    def nbytes(self) -> int:
        return 0 if self._copy is None else self._copy.nbytes

    def restore(self, parameter: "Tensor") -> None:
        """Write it back, on the device and in the dtype that the parameter has now. Raises BaseLost if the checkpoint has changed."""
        if self._copy is not None:
            parameter.copy_(self._copy)
        else:
            assert self._file is not None
            self._file.read(self._name, parameter.detach())


class Room:
    """What a GPU may hold of copies while a merge lasts: a quarter of it stays free for the pictures. None on other devices."""

    def __init__(self) -> None:
        self._left: dict[torch.device, int] = {}

    def copy(self, parameter: "Tensor") -> Kept | None:
        """A copy beside the parameter, if there is room."""
        device = parameter.device
        if device.type != "cuda":
            return None
        if device not in self._left:
            free, total = torch.cuda.mem_get_info(device)
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            self._left[device] = free + unused - total // 4
        if parameter.nbytes > self._left[device]:
            return None
        self._left[device] -= parameter.nbytes
        return Kept(parameter.detach().clone())


class Checkpoints:
    """The checkpoint of each component. They stay mapped between attaches, as the base itself does: to map and unmap the files
    of SD 1.5 at every merge would take a tenth of its time."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[weakref.ref[Module], Checkpoint]] = {}

    def of(self, name: str, component: "Module") -> "Checkpoint | None":
        """The one that `component` was loaded from; looked for anew if its files have changed since."""
        if name in self._known:
            owner, known = self._known[name]
            if owner() is component and known.is_current():
                return known
            del self._known[name]
        found = Checkpoint.of(component)
        if found is not None:
            self._known[name] = (weakref.ref(component), found)
        return found


class Checkpoint:
    """The safetensors files of one component of a pipeline."""

    def __init__(self, files: Mapping[Path, Header]) -> None:
        self._headers = files
        self._places = {name: path for path, header in files.items() for name in header.entries}
        self._open: dict[Path, HeldFile] = {}

    def is_current(self) -> bool:
        """Whether nobody has written to the files since their headers were read."""
        return all(header.is_current() for header in self._headers.values())

    @classmethod
    def of(cls, component: "Module") -> "Checkpoint | None":
        """The files that the component says it was loaded from, if they are still there and can be read."""
        config: Any = getattr(component, "config", None)
        source = getattr(config, "_name_or_path", None) or (config.get("_name_or_path") if isinstance(config, dict) else None)
        if not source or not Path(source).is_dir():
            return None
        try:
            files = {path: Header.read(path) for path in sorted(Path(source).glob("*.safetensors"))}
        except FileError:
            return None
        return cls(files) if files else None

    def keep(self, name: str, parameter: "Tensor") -> Kept:
        """`parameter` left to this checkpoint if it has the same bits under `name`, else copied."""
        spelled = (name, name.removeprefix("text_model."), f"text_model.{name}")
        found = next((one for one in spelled if one in self._places), None)
        if found is None or self._headers[self._places[found]].entries[found].shape != tuple(parameter.shape):
            return Kept(parameter.detach().clone())
        try:
            same = _same_bits(self._held(found).mapped(found), parameter)
        except FileError:  # written to since its header was read
            same = False
        return Kept(None, self, found) if same else Kept(parameter.detach().clone())

    def read(self, name: str, parameter: "Tensor") -> None:
        """Into `parameter`, cast as the loader casts. Raises BaseLost if somebody has written to the file since it was opened."""
        try:
            self._held(name).read(name, parameter)
        except FileError as error:
            raise BaseLost(
                f"{error} while networks were merged into the base that was loaded from it, so the base's own weights are lost. Load "
                "the base again before you draw with it, and give a changed file another name or replace it: do not write into one in use"
            ) from error

    def _held(self, name: str) -> HeldFile:
        path = self._places[name]
        if path not in self._open:
            self._open[path] = HeldFile(self._headers[path])
        return self._open[path]


def _same_bits(stored: "Tensor", parameter: "Tensor") -> bool:
    """Whether `stored`, cast as the loader casts, is `parameter`, signs of zero and NaN included."""
    if not stored.dtype.is_floating_point or parameter.device.type == "meta":
        return False
    cast = stored.to(parameter.device, parameter.dtype)
    ours, theirs = (_words(tensor.detach().contiguous().view(-1)) for tensor in (parameter, cast))
    if ours.device.type != "cpu" or ours.dtype != theirs.dtype:
        return ours.dtype == theirs.dtype and bool(torch.equal(ours, theirs))
    # numpy compares twice as fast as torch.equal, a block at a time while both are in the cache.
    one, other = ours.numpy(), theirs.numpy()
    return all(np.array_equal(one[start : start + _BLOCK], other[start : start + _BLOCK]) for start in range(0, len(one), _BLOCK))


def _words(flat: "Tensor") -> "Tensor":
    """The bits as integers, eight bytes each where that is possible."""
    size = flat.element_size()
    wide = flat.nbytes % 8 == 0 and flat.storage_offset() * size % 8 == 0
    return flat.view(torch.int64 if wide else getattr(torch, _SAME_SIZE[size]))
