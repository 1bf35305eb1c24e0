"""A quick look into a file: its metadata, and whether its tensors are laid out like those of another file.

Reading all entries of a large header takes a hundred times as long as its metadata, which safetensors writes first; and a library
holds few layouts, as every network of one trainer, base and rank has the same.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from loraloom.tensorfile import MAX_HEADER, bad_header, raw_metadata, read_raw, readable, require_short

_FIRST = 2**16  # bytes that are read for metadata alone; most networks have less
_OPENING = re.compile(rb'\{\s*"__metadata__"\s*:\s*(?=\{)')
_CLOSING = re.compile(rb'(?<!\\)"\s*\}')  # of the metadata, or of a text in it that begins with a bracket
_ATTEMPTS = 4


class Peek(NamedTuple):
    """`layout` is equal for files with the same tensor names, dtypes, shapes and offsets, written alike; empty if not asked for."""

    metadata: Mapping[str, str]
    layout: bytes = b""


def peek(path: str | Path, *, layout: bool = False) -> Peek:
    """The metadata of a file, its entries unread and unchecked: `Header.read` does that.

    Raises NotSafetensors, LimitExceeded or FileError, each naming the file.
    """
    path = Path(path)
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
    for closing in islice(_CLOSING.finditer(raw, opening.end()), _ATTEMPTS):
        told = raw[opening.end() : closing.end()]
        try:
            metadata = msgspec.json.decode(told, type=dict[str, str])
        except msgspec.DecodeError:
            continue
        require_short(path, told)
        return metadata, closing.end()
    return None


def _anywhere(path: Path, raw: bytes) -> tuple[dict[str, str], int]:
    """Metadata wherever it stands; all of the header counts for the layout then."""
    told = raw_metadata(raw)
    require_short(path, told)
    return msgspec.json.decode(told or b"{}", type=dict[str, str]), 0
