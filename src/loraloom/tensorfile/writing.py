"""Tensors and metadata to a file: equal content gives equal bytes, and nothing that was there before is lost."""

import errno
import hashlib
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from loraloom.atomic import replacing
from loraloom.errors import BadTensor
from loraloom.lazy import torch
from loraloom.tensorfile.decoding import Entry, require_short
from loraloom.tensorfile.dtypes import WRITTEN
from loraloom.tensorfile.header import Header
from loraloom.tensorfile.opening import CHUNK

if TYPE_CHECKING:
    from torch import Tensor


def write(path: str | Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> Path:
    """Write atomically: a temporary file in the same folder, fsync, read back and compared, then renamed.

    Tensors are ordered by size of element and name, as the library orders them, and metadata by key, so equal content gives equal
    bytes. A reader never sees half a file; on any failure what was at `path` before is untouched and WriteFailed says why.
    """
    path = Path(path)
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in _ordered(tensors)}
    header = encode_header(path, _laid_out(path, ordered), dict(sorted(metadata.items())))
    with replacing(path) as temporary:
        with temporary.open("xb") as file:
            digest = _write_all(file, header, ordered)
        _verify(temporary, digest)
    return path


def content_hash(tensors: "Mapping[str, Tensor]") -> str:
    """sha256 (hex) of the tensors' bytes as `write` stores them: the `Header.content_hash` of the file."""
    digest = hashlib.sha256()
    for name in _ordered(tensors):
        digest.update(_bytes(tensors[name].detach().cpu().contiguous()))
    return digest.hexdigest()


def _ordered(tensors: "Mapping[str, Tensor]") -> list[str]:
    """The widest elements first: every tensor begins at a multiple of its elements, and neighbours are of one dtype."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), str(tensors[name].dtype), name))


def _bytes(tensor: "Tensor") -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _laid_out(path: Path, tensors: "Mapping[str, Tensor]") -> dict[str, Entry]:
    """Each tensor's place, one after another; raises BadTensor for a dtype that is not written."""
    found: dict[str, Entry] = {}
    position = 0
    for name, tensor in tensors.items():
        dtype = WRITTEN.get(str(tensor.dtype).removeprefix("torch."))
        if dtype is None:
            raise BadTensor(f"{path}: {name}: {tensor.dtype} is not written; cast it to float32, float16 or bfloat16")
        stop = position + tensor.numel() * tensor.element_size()
        found[name] = Entry(dtype, tuple(tensor.shape), position, stop)
        position = stop
    return found


def encode_header(path: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """A file's bytes up to its tensors; names and metadata keep their order. Raises BadTensor for text that no file can store,
    LimitExceeded for more metadata than is read."""
    fields: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, entry in entries.items():
        fields[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": (entry.start, entry.stop)}
    try:
        require_short(path, msgspec.json.encode(dict(metadata)))
        text = msgspec.json.encode(fields)
    except UnicodeEncodeError as error:
        raise BadTensor(f"{path}: a name or metadata holds half a character ({error}), which no file can store") from error
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8, as the library writes them
    return struct.pack("<Q", len(text)) + text


def _write_all(file: IO[bytes], header: bytes, tensors: "Mapping[str, Tensor]") -> bytes:
    digest = hashlib.sha256(header)
    file.write(header)
    for tensor in tensors.values():
        content = _bytes(tensor)
        digest.update(content)
        file.write(content)
    file.flush()
    os.fsync(file.fileno())
    return digest.digest()


def _verify(path: Path, expected: bytes) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    if digest.digest() != expected:
        raise OSError(errno.EIO, "what was read back differs from what was written")
    Header.read(path)
