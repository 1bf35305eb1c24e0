"""One file that is kept open: its tensors mapped, and read again into memory that is there already."""

import os
from typing import TYPE_CHECKING

from loraloom.errors import FileError
from loraloom.lazy import torch
from loraloom.tensorfile.dtypes import TORCH
from loraloom.tensorfile.header import Header
from loraloom.tensorfile.loading import open_tensors
from loraloom.tensorfile.opening import stamp_of, unreadable

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 2**22  # elements that are read before they are cast


class HeldFile:
    """The bytes of a file as long as nobody writes into it. One that replaces it under its name does not matter.

    A map of a file that is cut short kills the process that looks at it (SIGBUS), and one of a file that is overwritten shows the new
    bytes. So what must be right is read, not mapped: a read ends early instead, and the file's stamp is looked at before and after it.
    """

    def __init__(self, header: Header) -> None:
        """Raises FileError if the file is not there, or not the one of which this is the header."""
        self.path, self._header = header.path, header
        try:
            self._file = header.path.open("rb", buffering=0)
        except OSError as error:
            raise unreadable(header.path, error) from error
        self._require_unchanged()
        with open_tensors(header) as tensors:
            self._tensors = tensors

    def mapped(self, name: str) -> "Tensor":
        """To look at now. Raises FileError if the file was written to."""
        self._require_unchanged()
        return self._tensors[name]

    def read(self, name: str, into: "Tensor") -> None:
        """The tensor's values, cast as `Tensor.copy_` casts. Raises FileError if the file was written to, also meanwhile."""
        self._require_unchanged()
        entry = self._header.entries[name]
        dtype = getattr(torch, TORCH[entry.dtype])
        self._file.seek(self._header.data_start + entry.start)
        if into.dtype == dtype and into.device.type == "cpu" and into.is_contiguous():
            self._fill(into)
        else:
            flat = into.view(-1) if into.is_contiguous() else torch.empty(into.shape, dtype=dtype, device="cpu").view(-1)
            room = torch.empty(min(_BLOCK, max(1, flat.numel())), dtype=dtype, device="cpu")
            for start in range(0, flat.numel(), _BLOCK):
                part = flat[start : start + _BLOCK]
                self._fill(room[: len(part)])
                part.copy_(room[: len(part)])
            if not into.is_contiguous():
                into.copy_(flat.view(into.shape))
        self._require_unchanged()

    def _fill(self, tensor: "Tensor") -> None:
        """The next bytes of the file; tensors without elements take none."""
        room = tensor.view(-1).view(torch.uint8).numpy().data
        done = 0
        while done < len(room):
            count = self._file.readinto(room[done:])
            if not count:
                raise FileError(f"{self.path}: was cut short")
            done += count

    def _require_unchanged(self) -> None:
        if stamp_of(os.fstat(self._file.fileno())) != self._header.stamp:
            raise FileError(f"{self.path}: was written to")
