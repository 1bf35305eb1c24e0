"""A header's bytes and what they say: a length, JSON, and the limits that hold before anything is allocated."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from loraloom.errors import BadTensor, LimitExceeded, NotSafetensors
from loraloom.tensorfile.dtypes import BYTES
from loraloom.tensorfile.foreign import HEAD, instead

MAX_HEADER = 100 * 2**20  # the library's own limit
MAX_METADATA = 16 * 2**20  # the tag statistics of a large training set take 1 to 2 MB
MAX_TENSORS = 50_000  # 200,000 empty tensors take the library 17 s; the largest known LoRA has fewer than 10,000
MAX_NAME = 512  # characters; names of real modules stay below 150


@dataclass(frozen=True)
class Entry:
    """One tensor as the header describes it; `start` and `stop` are bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class _RawEntry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _OnlyMetadata(msgspec.Struct):
    raw: msgspec.Raw = msgspec.field(name="__metadata__", default=msgspec.Raw())


def read_raw(path: Path, file: IO[bytes], size: int, most: int = MAX_HEADER) -> tuple[int, bytes]:
    """The header's length, and its first bytes as they are, at most `most`; raises NotSafetensors or LimitExceeded."""
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if length < 2 or file.read(1) != b"{":
        file.seek(0)
        raise NotSafetensors(f"{path}: {instead(file.read(HEAD))}")
    if length > MAX_HEADER:
        raise LimitExceeded(f"{path}: the header claims {length:,} bytes, the limit is {MAX_HEADER:,}")
    if 8 + length > size:
        raise NotSafetensors(f"{path}: cut short: the header alone needs {8 + length:,} bytes, the file has {size:,}; download it again")
    return length, b"{" + file.read(min(length, most) - 1)


def bad_header(path: Path, error: Exception) -> NotSafetensors:
    return NotSafetensors(f"{path}: the header is not what safetensors defines ({error}); download it again")


def require_short(path: Path, metadata: bytes) -> None:
    """Raises LimitExceeded for metadata of which a stranger made too much."""
    if len(metadata) > MAX_METADATA:
        raise LimitExceeded(f"{path}: {len(metadata):,} bytes of metadata, the limit is {MAX_METADATA:,}")


def raw_metadata(raw: bytes) -> bytes:
    """The metadata of a header as its text; empty if it has none. Passes over the rest without building anything."""
    return bytes(msgspec.json.decode(raw, type=_OnlyMetadata).raw)


def metadata_of(told: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Metadata from its text, and what of it is no text, which the format allows alone: other values become their JSON, as nothing is
    lost by it. Metadata that is no object at all is none. Raises msgspec.DecodeError.
    """
    try:
        return msgspec.json.decode(told or b"{}", type=dict[str, str]), ()
    except msgspec.ValidationError:
        content = msgspec.json.decode(told)
    if not isinstance(content, dict):
        return {}, ("all of it",) if content is not None else ()
    texts = {key: value if isinstance(value, str) else msgspec.json.encode(value).decode() for key, value in content.items()}
    return texts, tuple(key for key, value in content.items() if not isinstance(value, str))


def decode(path: Path, raw: bytes) -> tuple[dict[str, str], tuple[str, ...], dict[str, Entry]]:
    """Metadata, what of it was no text, and entries of a header. What would take much memory is refused before it is taken."""
    told = raw_metadata(raw)
    require_short(path, told)
    described = raw.count(b"{") - told.count(b"{") - 1  # each tensor is one JSON object
    if described > MAX_TENSORS:
        raise LimitExceeded(f"{path}: {described:,} tensors, the limit is {MAX_TENSORS:,}")
    metadata, mended = metadata_of(told)
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    fields.pop("__metadata__", None)
    if len(fields) != described:
        raise NotSafetensors(f"{path}: the header has {described:,} entries for {len(fields):,} names: a name is there twice")
    return metadata, mended, {name: _entry(path, name, msgspec.json.decode(value, type=_RawEntry)) for name, value in fields.items()}


def _entry(path: Path, name: str, raw: _RawEntry) -> Entry:
    if len(name) > MAX_NAME:
        raise LimitExceeded(f"{path}: a tensor's name has {len(name):,} characters, the limit is {MAX_NAME}: {name[:60]}...")
    if raw.dtype not in BYTES:
        raise BadTensor(f"{path}: {name}: unknown dtype {raw.dtype!r}; known are {', '.join(BYTES)}")
    start, stop = raw.data_offsets
    if len(raw.shape) > 8 or any(length < 0 for length in raw.shape) or not 0 <= start <= stop:
        raise BadTensor(f"{path}: {name}: impossible shape {raw.shape} or offsets {raw.data_offsets}")
    if math.prod(raw.shape) * BYTES[raw.dtype] != stop - start:
        raise BadTensor(f"{path}: {name}: shape {raw.shape} of {raw.dtype} does not fill its {stop - start:,} bytes")
    return Entry(raw.dtype, tuple(raw.shape), start, stop)


def check_layout(path: Path, entries: Mapping[str, Entry]) -> None:
    """No holes and no overlaps: bytes that no tensor owns could hide anything."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            raise NotSafetensors(f"{path}: {name} begins at byte {entry.start:,} of the data, expected {position:,}: holes or overlaps")
        position = entry.stop
