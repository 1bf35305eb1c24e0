"""Numbers of a safetensors file (alpha and its like) by their place in it. No torch, and nothing of the large tensors is read."""

import math
import struct
from collections.abc import Iterable, Mapping

from loraloom.errors import FileError
from loraloom.tensorfile import BYTES, Header, readable

_FORMATS = {"F16": "<e", "F32": "<f", "F64": "<d", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B", "BOOL": "<?"}


def read_numbers(header: Header, names: Iterable[str]) -> Mapping[str, float]:
    """The values of these tensors, each of one element; others, and dtypes that hold no plain number, are left out.

    Raises FileError if the file cannot be read or has changed.
    """
    places = sorted(
        (entry.start, name, entry.dtype)
        for name in names
        if math.prod((entry := header.entries[name]).shape) == 1 and (entry.dtype in _FORMATS or entry.dtype == "BF16")
    )
    found: dict[str, float] = {}
    with readable(header.path) as file:
        for start, name, dtype in places:
            file.seek(header.data_start + start)
            content = file.read(BYTES[dtype])
            if len(content) != BYTES[dtype]:
                raise FileError(f"{header.path}: was cut short while it was read; try again")
            found[name] = _number(content, dtype)
    if not header.is_current():
        raise FileError(f"{header.path}: was changed while it was read; try again")
    return found


def _number(content: bytes, dtype: str) -> float:
    if dtype == "BF16":  # the upper half of a float32
        return float(struct.unpack("<f", b"\0\0" + content)[0])
    return float(struct.unpack(_FORMATS[dtype], content)[0])
