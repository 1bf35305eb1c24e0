"""A quick look into a file: its metadata, and whether its tensors are laid out like those of another file.

Reading all entries of a large header takes a hundred times as long as its metadata, which safetensors writes first; and a library
holds few layouts, as every network of one trainer, base and rank has the same.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from loraloom.tensorfile import MAX_HEADER, bad_header, metadata_of, raw_metadata, read_raw, readable, require_short

_FIRST = 2**14  # bytes that are read for metadata alone; most networks have less, and four times as many take twice as long
_OPENING = re.compile(rb'\{\s*"__metadata__"\s*:\s*(?=\{)')
_CLOSING = b'"}'  # of the metadata, or in a text of it
_ATTEMPTS = 4


class Peek(NamedTuple):
    """`layout` is equal for files with the same tensor names, dtypes, shapes and offsets, written alike; empty if not asked for."""

    metadata: Mapping[str, str]
    layout: bytes = b""


def peek(path: Path, *, layout: bool = False) -> Peek:
    """The metadata of a file, its entries unread and unchecked: `Header.read` does that.

    Raises NotSafetensors, LimitExceeded or FileError, each naming the file.
    """
    with readable(path) as file:
        size = os.fstat(file.fileno()).st_size
        length, raw = read_raw(path, file, size, MAX_HEADER if layout else _FIRST)
        try:
            found = _leading(path, raw)
            if found is None:
                raw += file.read(length - len(raw))
                found = _leading(path, raw) or _anywhere(path, raw)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise bad_header(path, error) from error
    metadata, end = found
    # The size stands for the tensors' bytes, which the offsets must fill.
    digest = hashlib.sha256(b"%d %b" % (size - 8 - length, raw[end:])).digest() if layout else b""
    return Peek(metadata, digest)


def _leading(path: Path, raw: bytes) -> tuple[dict[str, str], int] | None:
    """Metadata that stands first, and where it ends; None if it does not, or ends in a way that only a parser sees."""
    opening = _OPENING.match(raw)
    if opening is None:
        return None
    for stop in islice(_ends(raw, opening.end()), _ATTEMPTS):
        told = raw[opening.end() : stop]
        try:
            metadata, _ = metadata_of(told)
        except msgspec.DecodeError:
            continue
        require_short(path, told)
        return metadata, stop
    return None


def _ends(raw: bytes, start: int) -> Iterator[int]:
    """Where metadata from `start` on may end: after a quote and a bracket, unless the quote is an escaped one."""
    place = raw.find(_CLOSING, start)
    while place >= 0:
        if raw[place - 1 : place] != b"\\":  # a text may end in a backslash, but that is left to the parser
            yield place + len(_CLOSING)
        place = raw.find(_CLOSING, place + 1)


def _anywhere(path: Path, raw: bytes) -> tuple[dict[str, str], int]:
    """Metadata wherever it stands; all of the header counts for the layout then."""
    told = raw_metadata(raw)
    require_short(path, told)
    return metadata_of(told)[0], 0
