"""safetensors files: the header without torch, tensors lazily, writing that cannot lose anything. The only opener of files.

The layout (huggingface/safetensors, "Format"): u64 little-endian n, n bytes of JSON, then the tensors' bytes. Reading
tensors is the library's; the header is read here because the limits must hold before anything is allocated, and written
here because the library orders metadata differently on every run and two equal files should be equal bytes.
"""

import errno
import hashlib
import math
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from loraloom.errors import BadTensor, FileError, LimitExceeded, NotSafetensors, WriteFailed
from loraloom.lazy import LazyModule, torch

if TYPE_CHECKING:
    import safetensors.torch as safetensors_torch
    from torch import Tensor
else:
    safetensors_torch = LazyModule("safetensors.torch")

MAX_HEADER = 100 * 2**20  # the library's own limit
MAX_TENSORS = 50_000  # 200,000 empty tensors take the library 17 s; the largest known LoRA has fewer than 10,000
BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
BYTES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}
_CHUNK = 2**20


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


@dataclass(frozen=True)
class Header:
    """Names, shapes, dtypes and metadata of one file, checked against the file's size. No torch, no tensor bytes."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int  # bytes from the beginning of the file
    file_size: int

    @classmethod
    def read(cls, path: str | Path) -> "Header":
        """Raises NotSafetensors, LimitExceeded, BadTensor or FileError; each names the file."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                return _read_header(path, file)
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    def content_hash(self) -> str:
        """sha256 (hex) of everything after the header: `sshs_model_hash`; metadata does not change it."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            file.seek(self.data_start)
            while block := file.read(_CHUNK):
                digest.update(block)
        return digest.hexdigest()


def _read_header(path: Path, file: IO[bytes]) -> Header:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    if prefix[:2] == b"PK" or prefix[:1] == b"\x80":
        raise NotSafetensors(f"{path}: this is a pickle (.pt/.ckpt), which can run code when it is opened; only safetensors files are read")
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if size < 10 or length < 2 or file.read(1) != b"{":
        raise NotSafetensors(f"{path}: not a safetensors file (it begins with {prefix[:8]!r}); download it again or look at what it is")
    if length > MAX_HEADER:
        raise LimitExceeded(f"{path}: the header claims {length:,} bytes, the limit is {MAX_HEADER:,}")
    if 8 + length > size:
        raise NotSafetensors(f"{path}: cut short: the header alone needs {8 + length:,} bytes, the file has {size:,}; download it again")
    raw = b"{" + file.read(length - 1)
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(fields.pop("__metadata__", b"{}"), type=dict[str, str])
        if len(fields) > MAX_TENSORS:
            raise LimitExceeded(f"{path}: {len(fields):,} tensors, the limit is {MAX_TENSORS:,}")
        entries = {name: _entry(path, name, msgspec.json.decode(value, type=_RawEntry)) for name, value in fields.items()}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NotSafetensors(f"{path}: the header is not what safetensors defines ({error}); download it again") from error
    end = max((entry.stop for entry in entries.values()), default=0)
    if 8 + length + end != size:
        have, need = f"{size:,}", f"{8 + length + end:,}"
        raise NotSafetensors(
            f"{path}: the header describes {need} bytes, the file has {have}; it is cut short or damaged: download it again"
        )
    _check_layout(path, entries)
    return Header(path, entries, metadata, 8 + length, size)


def _entry(path: Path, name: str, raw: _RawEntry) -> Entry:
    if raw.dtype not in BYTES:
        raise BadTensor(f"{path}: {name}: unknown dtype {raw.dtype!r}; known are {', '.join(BYTES)}")
    start, stop = raw.data_offsets
    if len(raw.shape) > 8 or any(length < 0 for length in raw.shape) or not 0 <= start <= stop:
        raise BadTensor(f"{path}: {name}: impossible shape {raw.shape} or offsets {raw.data_offsets}")
    if math.prod(raw.shape) * BYTES[raw.dtype] != stop - start:
        raise BadTensor(f"{path}: {name}: shape {raw.shape} of {raw.dtype} does not fill its {stop - start:,} bytes")
    return Entry(raw.dtype, tuple(raw.shape), start, stop)


def _check_layout(path: Path, entries: Mapping[str, Entry]) -> None:
    """No holes and no overlaps: bytes that no tensor owns could hide anything."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            raise NotSafetensors(f"{path}: {name} begins at byte {entry.start:,} of the data, expected {position:,}: holes or overlaps")
        position = entry.stop


@contextmanager
def open_tensors(header: Header) -> "Iterator[Mapping[str, Tensor]]":
    """The file's tensors by name, each mapped from disk when it is asked for, on the CPU, in the file's dtype."""
    try:
        with safetensors_torch.safe_open(header.path, framework="pt") as file:
            yield _Tensors(header, file)
    except (OSError, safetensors_torch.SafetensorError) as error:
        raise FileError(f"{header.path}: cannot be read: {error}") from error


class _Tensors(Mapping[str, "Tensor"]):
    def __init__(self, header: Header, file: "safetensors_torch.safe_open") -> None:
        self._header, self._file = header, file

    def __getitem__(self, name: str) -> "Tensor":
        if name not in self._header.entries:
            raise KeyError(name)
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.entries)

    def __len__(self) -> int:
        return len(self._header.entries)


def write(path: str | Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> Path:
    """Write atomically: a temporary file in the same folder, fsync, read back and compared, then renamed.

    Tensors are ordered by name and metadata by key, so equal content gives equal bytes. A reader never sees half a
    file; on any failure what was at `path` before is untouched and WriteFailed says why.
    """
    path = Path(path)
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    header = _encode_header(ordered, metadata)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".partial", delete=False) as file:
            temporary = Path(file.name)
            digest = _write_all(file, header, ordered)
        _verify(temporary, digest)
        temporary.chmod(0o666 & ~_umask())  # the temporary file is private, the result is like any new file
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        advice = "free some space and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the folder and its permissions"
        raise WriteFailed(
            f"{path}: could not be written: {error.strerror or error}; {advice}. Nothing that was there has changed"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def _encode_header(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> bytes:
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "int64": "I64", "int32": "I32", "uint8": "U8"}
    fields: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for name, tensor in tensors.items():
        dtype = names.get(str(tensor.dtype).removeprefix("torch."))
        if dtype is None:
            raise BadTensor(f"{name}: {tensor.dtype} is not written; cast it to float32, float16 or bfloat16")
        stop = position + tensor.numel() * tensor.element_size()
        fields[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [position, stop]}
        position = stop
    text = msgspec.json.encode(fields)
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8, as the library writes them
    return struct.pack("<Q", len(text)) + text


def _write_all(file: IO[bytes], header: bytes, tensors: "Mapping[str, Tensor]") -> bytes:
    digest = hashlib.sha256(header)
    file.write(header)
    for tensor in tensors.values():
        content = tensor.reshape(-1).view(torch.uint8).numpy().data
        digest.update(content)
        file.write(content)
    file.flush()
    os.fsync(file.fileno())
    return digest.digest()


def _verify(path: Path, expected: bytes) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    if digest.digest() != expected:
        raise OSError(errno.EIO, "what was read back differs from what was written")
    Header.read(path)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; systems that cannot open folders (Windows) do it on their own."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
