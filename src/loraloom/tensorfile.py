"""safetensors files: the header without torch, tensors lazily, writing that cannot lose anything. The only opener of files.

The layout (huggingface/safetensors, "Format"): u64 little-endian n, n bytes of JSON, then the tensors' bytes. Reading
tensors is the library's; the header is read here because the limits must hold before anything is allocated, and written
here because the library orders metadata differently on every run and two equal files should be equal bytes.
"""

import errno
import hashlib
import math
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from loraloom.atomic import replacing
from loraloom.errors import BadTensor, FileError, LimitExceeded, NotSafetensors
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 100 * 2**20  # the library's own limit
MAX_METADATA = 16 * 2**20  # the tag statistics of a large training set take 1 to 2 MB
MAX_TENSORS = 50_000  # 200,000 empty tensors take the library 17 s; the largest known LoRA has fewer than 10,000
MAX_NAME = 512  # characters; names of real modules stay below 150
WRITTEN = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "uint8": "U8"}
BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
TORCH = {name: dtype for dtype, name in WRITTEN.items()} | {"BOOL": "bool", "I8": "int8", "I16": "int16"}
TORCH |= {"U16": "uint16", "U32": "uint32", "U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
BYTES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}
_CHUNK = 2**20
_PICKLES = (b"PK", b"\x80")


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


@dataclass(frozen=True)
class Header:
    """Names, shapes, dtypes and metadata of one file, checked against the file's size. No torch, no tensor bytes."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int  # bytes from the beginning of the file
    file_size: int
    stamp: tuple[int, ...]  # of the file on the disk: changes when somebody writes to it

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
            return _stamp(self.path.stat()) == self.stamp
        except OSError:
            return False

    def content_hash(self) -> str:
        """sha256 (hex) of everything after the header: `sshs_model_hash`; metadata does not change it."""
        digest = hashlib.sha256()
        with readable(self.path) as file:
            file.seek(self.data_start)
            while block := file.read(_CHUNK):
                digest.update(block)
        return digest.hexdigest()

    def sampled_hash(self) -> str:
        """sha256 (hex) of the header and of 1 MB at the beginning, the middle and the end of the data: tells models of gigabytes
        apart in milliseconds."""
        digest = hashlib.sha256()
        size = self.file_size - self.data_start
        with readable(self.path) as file:
            digest.update(file.read(self.data_start))
            for offset in (0, size // 2, max(0, size - _CHUNK)):
                file.seek(self.data_start + offset)
                digest.update(file.read(_CHUNK))
        return digest.hexdigest()


@contextmanager
def readable(path: Path) -> Iterator[IO[bytes]]:
    """The open file; every complaint of the system, within the block too, is a FileError."""
    with opened(path) as file:
        try:
            yield file
        except OSError as error:
            raise _unreadable(path, error) from error


def opened(path: Path) -> IO[bytes]:
    """The open file; raises FileError. A pipe or a device is refused: it would be waited for without end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileError(f"{path}: is a {'folder' if path.is_dir() else 'device or pipe'}, not a file")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> FileError:
    return FileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _read_header(path: Path, file: IO[bytes]) -> Header:
    status = os.fstat(file.fileno())
    size = status.st_size
    length, raw = read_raw(path, file, size)
    try:
        metadata, entries = _decode(path, raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_header(path, error) from error
    end = max((entry.stop for entry in entries.values()), default=0)
    if 8 + length + end != size:
        have, need = f"{size:,}", f"{8 + length + end:,}"
        raise NotSafetensors(
            f"{path}: the header describes {need} bytes, the file has {have}; it is cut short or damaged: download it again"
        )
    _check_layout(path, entries)
    return Header(path, entries, metadata, 8 + length, size, _stamp(status))


def read_raw(path: Path, file: IO[bytes], size: int, most: int = MAX_HEADER) -> tuple[int, bytes]:
    """The header's length, and its first bytes as they are, at most `most`; raises NotSafetensors or LimitExceeded."""
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if length < 2 or file.read(1) != b"{":
        raise NotSafetensors(f"{path}: {_instead(prefix)}")
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


def is_pickle(path: Path) -> bool:
    """By its first bytes: a zip of torch's, or a pickle from before. Raises FileError."""
    with readable(path) as file:
        return file.read(2).startswith(_PICKLES)


def _instead(prefix: bytes) -> str:
    """What a file that begins with `prefix` is instead of safetensors."""
    if prefix.startswith(_PICKLES):
        return (
            "this is a pickle (.pt/.ckpt), which can run code when it is opened; only safetensors files are read: `loraloom convert` makes "
            "one of it, in a process of its own"
        )
    if not prefix:
        return "the file is empty; download it again"
    if prefix.lstrip()[:1] == b"<":
        return "this is a web page, not a safetensors file; download the file itself"
    return f"not a safetensors file (it begins with {prefix!r}); download it again or look at what it is"


def raw_metadata(raw: bytes) -> bytes:
    """The metadata of a header as its text; empty if it has none. Passes over the rest without building anything."""
    return bytes(msgspec.json.decode(raw, type=_OnlyMetadata).raw)


def _decode(path: Path, raw: bytes) -> tuple[dict[str, str], dict[str, Entry]]:
    """Metadata and entries of a header. What would take much memory is refused before it is taken."""
    told = raw_metadata(raw)
    require_short(path, told)
    described = raw.count(b"{") - told.count(b"{") - 1  # each tensor is one JSON object
    if described > MAX_TENSORS:
        raise LimitExceeded(f"{path}: {described:,} tensors, the limit is {MAX_TENSORS:,}")
    metadata = msgspec.json.decode(told or b"{}", type=dict[str, str])
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    fields.pop("__metadata__", None)
    if len(fields) != described:
        raise NotSafetensors(f"{path}: the header has {described:,} entries for {len(fields):,} names: a name is there twice")
    return metadata, {name: _entry(path, name, msgspec.json.decode(value, type=_RawEntry)) for name, value in fields.items()}


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


def _check_layout(path: Path, entries: Mapping[str, Entry]) -> None:
    """No holes and no overlaps: bytes that no tensor owns could hide anything."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            raise NotSafetensors(f"{path}: {name} begins at byte {entry.start:,} of the data, expected {position:,}: holes or overlaps")
        position = entry.stop


@contextmanager
def open_tensors(header: Header) -> "Iterator[Mapping[str, Tensor]]":
    """The file's tensors by name, each mapped from disk when it is asked for, on the CPU, in the file's dtype.

    A mapped tensor changes when another program writes into the file: clone what outlives the `with`.
    """
    try:
        mapped = torch.from_file(str(header.path), shared=False, size=header.file_size, dtype=torch.uint8)
        if _stamp(header.path.stat()) != header.stamp:
            raise FileError(f"{header.path}: was changed while it was read; try again")
    except (OSError, RuntimeError) as error:  # torch's own mapping raises RuntimeError
        raise FileError(f"{header.path}: cannot be read: {error}") from error
    yield _Tensors(header, mapped)


def load_tensors(header: Header, names: Iterable[str]) -> "dict[str, Tensor]":
    """These tensors on the CPU, in the file's dtype, in memory of our own: nobody who writes into the file can change them.

    Neighbours of one dtype are read at once and share one storage of at most 1 MB, which takes a tenth of the time of reading each
    for itself; nothing else of the file is read. Raises BadTensor if a value is NaN or infinite.
    """
    runs: list[list[str]] = []
    start, stop, dtype = -1, -1, ""
    for name in sorted(names, key=lambda name: (header.entries[name].start, header.entries[name].stop)):
        entry = header.entries[name]
        if entry.start != stop or entry.dtype != dtype or entry.stop - start > _CHUNK:
            runs.append([])
            start, dtype = entry.start, entry.dtype
        runs[-1].append(name)
        stop = entry.stop
    found: dict[str, Tensor] = {}
    with readable(header.path) as file:
        for run in runs:
            found |= _load_run(header, run, file)
        if _stamp(os.fstat(file.fileno())) != header.stamp:
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
        if len(whole) and all(math.isfinite(value.item()) for value in torch.aminmax(whole)):
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


def require_finite(path: Path, key: str, tensor: "Tensor") -> None:
    """Raises BadTensor if a value of the file's tensor `key` is NaN or infinite."""
    if tensor.numel() == 1:
        extremes = [tensor.item()]
    else:
        wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # torch has no aminmax for float8
        extremes = [value.item() for value in torch.aminmax(wide)] if tensor.numel() else []
    if not all(map(math.isfinite, extremes)):
        raise BadTensor(
            f"{path.name}: {key} holds NaN or infinite values; the training that made it went wrong, retrain or use an earlier epoch"
        )


class _Tensors(Mapping[str, "Tensor"]):
    def __init__(self, header: Header, mapped: "Tensor") -> None:
        self._header, self._mapped = header, mapped

    def __getitem__(self, name: str) -> "Tensor":
        return _view(self._mapped, self._header.data_start, self._header.entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.entries)

    def __len__(self) -> int:
        return len(self._header.entries)


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
        while block := file.read(_CHUNK):
            digest.update(block)
    if digest.digest() != expected:
        raise OSError(errno.EIO, "what was read back differs from what was written")
    Header.read(path)
