"""A safetensors file with another header, or a part of its tensors: what stays is copied byte for byte. No torch, nothing is parsed."""

import errno
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO

from loraloom.atomic import replacing
from loraloom.errors import FileError
from loraloom.tensorfile import BYTES, Entry, Header, encode_header, opened, readable

_CHUNK = 2**20
Run = tuple[int, int]  # bytes of a file, from and up to


def rewrite(
    header: Header, path: Path, metadata: Mapping[str, str], names: Collection[str] | None = None, *, overwrite: bool = True
) -> Path:
    """The file of `header` at `path`, which may be its own place, with this metadata and these of its tensors (None: all).

    Names, dtypes, bytes and order stay, and the permissions of what is replaced. Atomic, and compared with the source before it gets
    its name. Raises WriteFailed, Taken without `overwrite`, LimitExceeded and BadTensor for metadata that cannot be stored, FileError
    for a file that is not the one of `header` any more.
    """
    entries, runs = _layout(header, header.entries.keys() if names is None else names)
    beginning = encode_header(path, entries, metadata)
    with replacing(path, overwrite=overwrite) as temporary:
        with opened(header.path) as source, temporary.open("xb") as target:
            target.write(beginning)
            for block in _blocks(source, runs):
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
            _compare(temporary, beginning, source, runs)
        Header.read(temporary)
        if path.exists():
            shutil.copymode(path, temporary)
        if not header.is_current():
            raise FileError(f"{header.path}: was changed while it was copied; try again")
    return path


def content_hash(header: Header, names: Collection[str]) -> str:
    """sha256 (hex) of the tensors of a `rewrite` with these names: its `Header.content_hash`."""
    digest = hashlib.sha256()
    with readable(header.path) as file:
        for block in _blocks(file, _layout(header, names)[1]):
            digest.update(block)
    return digest.hexdigest()


def _layout(header: Header, names: Collection[str]) -> tuple[dict[str, Entry], list[Run]]:
    """The entries of a file with these tensors alone, and where their bytes are in the file that there is."""
    chosen = sorted(names, key=lambda name: (header.entries[name].start, header.entries[name].stop))
    places = _places(header, chosen)
    if any(entry.start % BYTES[entry.dtype] for entry in places.values()) and len(chosen) < len(header.entries):
        # What stood between them kept every tensor at a multiple of its elements, which some readers need; so does this order.
        chosen.sort(key=lambda name: -BYTES[header.entries[name].dtype])
        places = _places(header, chosen)
    runs: list[Run] = []
    for name in chosen:
        start, stop = (header.data_start + place for place in (header.entries[name].start, header.entries[name].stop))
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return {name: places[name] for name in header.entries if name in places}, runs


def _places(header: Header, names: Collection[str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    position = 0
    for name in names:
        old = header.entries[name]
        found[name] = Entry(old.dtype, old.shape, position, position + old.stop - old.start)
        position = found[name].stop
    return found


def _blocks(file: IO[bytes], runs: Collection[Run]) -> Iterator[bytes]:
    """Raises OSError for a file that ends before."""
    for start, stop in runs:
        file.seek(start)
        while start < stop:
            block = file.read(min(_CHUNK, stop - start))
            if not block:
                raise OSError(errno.EIO, "the source was cut short while it was copied")
            start += len(block)
            yield block


def _compare(written: Path, beginning: bytes, source: IO[bytes], runs: Collection[Run]) -> None:
    """Raises OSError if the file does not hold these bytes and then those of the source."""
    with written.open("rb") as file:
        same = file.read(len(beginning)) == beginning
        same = same and all(file.read(len(block)) == block for block in _blocks(source, runs)) and not file.read(1)
    if not same:
        raise OSError(errno.EIO, "what was read back differs from what was written")
