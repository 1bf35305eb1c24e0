"""safetensors files: the header without torch, tensors lazily, writing that cannot lose anything. The only opener of files.

The layout (huggingface/safetensors, "Format"): u64 little-endian n, n bytes of JSON, then the tensors' bytes. The header is
read here because the limits must hold before anything is allocated, and written here because the library orders metadata
differently on every run and two equal files should be equal bytes.
"""

from loraloom.tensorfile.decoding import (
    MAX_HEADER,
    MAX_METADATA,
    MAX_NAME,
    MAX_TENSORS,
    Entry,
    bad_header,
    metadata_of,
    raw_metadata,
    read_raw,
    require_short,
)
from loraloom.tensorfile.dtypes import BYTES
from loraloom.tensorfile.header import Header
from loraloom.tensorfile.loading import is_usable, load_tensors, open_tensors, require_finite
from loraloom.tensorfile.opening import is_pickle, opened, readable
from loraloom.tensorfile.writing import content_hash, encode_header, write

__all__ = [
    "BYTES",
    "MAX_HEADER",
    "MAX_METADATA",
    "MAX_NAME",
    "MAX_TENSORS",
    "Entry",
    "Header",
    "bad_header",
    "content_hash",
    "encode_header",
    "is_pickle",
    "is_usable",
    "load_tensors",
    "metadata_of",
    "open_tensors",
    "opened",
    "raw_metadata",
    "read_raw",
    "readable",
    "require_finite",
    "require_short",
    "write",
]
