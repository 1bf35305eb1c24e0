"""The header of one file: names, shapes, dtypes and metadata, without torch; and the hashes of its bytes."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import msgspec

from loraloom.errors import NotSafetensors
from loraloom.tensorfile.decoding import Entry, bad_header, check_layout, decode, read_raw
from loraloom.tensorfile.opening import CHUNK, readable, stamp_of


@dataclass(frozen=True)
class Header:
    """Names, shapes, dtypes and metadata of one file, checked against the file's size. No torch, no tensor bytes."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int  # bytes from the beginning of the file
    file_size: int
    stamp: tuple[int, ...]  # of the file on the disk: changes when somebody writes to it
    mended: tuple[str, ...] = ()  # keys of the metadata whose values are no text in the file: other programs refuse such a file

    @classmethod
    def read(cls, path: str | Path) -> "Header":
        """Raises NotSafetensors, LimitExceeded, BadTensor or FileError; each names the file."""
        path = Path(path)
        with readable(path) as file:
            return _read_header(path, file)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    def is_current(self) -> bool:
        """Whether the file on the disk is still the one that was read."""
        try:
            return stamp_of(self.path.stat()) == self.stamp
        except OSError:
            return False

    def content_hash(self) -> str:
        """sha256 (hex) of everything after the header: `sshs_model_hash`; metadata does not change it."""
        digest = hashlib.sha256()
        with readable(self.path) as file:
            file.seek(self.data_start)
            while block := file.read(CHUNK):
                digest.update(block)
        return digest.hexdigest()

    def sampled_hash(self) -> str:
        """sha256 (hex) of the header and of 1 MB at the beginning, the middle and the end of the data: tells models of gigabytes
        apart in milliseconds."""
        digest = hashlib.sha256()
        size = self.file_size - self.data_start
        with readable(self.path) as file:
            digest.update(file.read(self.data_start))
            for offset in (0, size // 2, max(0, size - CHUNK)):
                file.seek(self.data_start + offset)
                digest.update(file.read(CHUNK))
        return digest.hexdigest()


def _read_header(path: Path, file: IO[bytes]) -> Header:
    status = os.fstat(file.fileno())
    size = status.st_size
    length, raw = read_raw(path, file, size)
    try:
        metadata, mended, entries = decode(path, raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_header(path, error) from error
    end = max((entry.stop for entry in entries.values()), default=0)
    if 8 + length + end != size:
        have, need = f"{size:,}", f"{8 + length + end:,}"
        raise NotSafetensors(
            f"{path}: the header describes {need} bytes, the file has {have}; it is cut short or damaged: download it again"
        )
    check_layout(path, entries)
    return Header(path, entries, metadata, 8 + length, size, stamp_of(status), mended)
