"""The dtypes of safetensors: their names, their bytes, and torch's word for each."""

from loraloom.errors import SettingsError

WRITTEN = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "uint8": "U8"}
BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
BYTES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}
TORCH = {name: dtype for dtype, name in WRITTEN.items()} | {"BOOL": "bool", "I8": "int8", "I16": "int16"}
TORCH |= {"U16": "uint16", "U32": "uint32", "U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}

_WORDS = {
    "float16": ("fp16", "f16", "half", "torch.float16"),
    "bfloat16": ("bf16", "torch.bfloat16"),
    "float32": ("fp32", "f32", "float", "single", "full", "torch.float32"),
}
_CALLED = {word: name for name, words in _WORDS.items() for word in (name, *words)}
_SHORT = {name: words[0] for name, words in _WORDS.items()}


def dtype_called(word: object) -> object:
    """`float16` for each name that people have for it; what names no dtype of networks stays as it is."""
    return _CALLED.get(word.lower(), word) if isinstance(word, str) else word


def short_dtype(word: object) -> object:
    """`fp16` for each of these names, as commands and requests call it."""
    name = dtype_called(word)
    return _SHORT.get(name, word) if isinstance(name, str) else word


def named_dtype(word: str | None) -> str | None:
    """`fp16`, `bf16` or `fp32`, by any name that people have for it. Raises SettingsError for another; None leaves the choice open."""
    found = short_dtype(word)
    if found is None or found in _SHORT.values():
        return None if found is None else str(found)
    raise SettingsError(f"dtype {word}: networks are written as {', '.join(_SHORT.values())}")
