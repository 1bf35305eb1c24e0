"""What a base model says about itself before it is opened: family, tokenizer, size. Headers and small files only."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom.bases import Base
from loraloom.bases.identify import identify
from loraloom.bases.nano.layers import TEXT
from loraloom.bases.nano.model import byte_tokenizer
from loraloom.bases.tiny.model import folder as tiny_folder
from loraloom.errors import LoraError
from loraloom.generate.pipeline import EMBEDDED
from loraloom.home import expanded
from loraloom.lazy import LazyModule, torch
from loraloom.tensorfile import Header

if TYPE_CHECKING:
    import transformers
else:
    transformers = LazyModule("transformers")

_COMPONENTS = ("unet", "transformer", "text_encoder*", "vae")
_NANO_PIXELS = 2  # of one latent


@dataclass(frozen=True)
class Unopened:
    """`tokens_cut` says how many tokens of a caption do not fit; None where no tokenizer lies beside the weights."""

    base: Base
    tokens_cut: Callable[[str], int] | None
    weights: int  # numbers in all components
    width: int  # bytes of one number once it is loaded
    pixels_per_latent: int


def look(source: str) -> Unopened | None:
    """None for what only opening can tell: a model on the hub, or one that is not there or not known."""
    if source == "nano":
        return _nano(identify(source))
    path = tiny_folder() if source == "tiny" else expanded(source)
    if not path.exists():
        return None
    try:
        base = identify(source if source in EMBEDDED else str(path))
        weights = sum(_numbers(file) for file in _files(path))
    except LoraError:
        return None
    width = 2 if torch.cuda.is_available() and source not in EMBEDDED else 4
    return Unopened(base, _counter(path), weights, width, _pixels(path))


def _nano(base: Base) -> Unopened:
    tokenizer = byte_tokenizer(TEXT.positions)
    numbers = sum(math.prod(layer.shape) for layer in base.layers)
    return Unopened(base, lambda caption: _cut(tokenizer, caption), numbers, 4, _NANO_PIXELS)


def _files(path: Path) -> list[Path]:
    """The weights: of several number formats of one component, those without a mark."""
    if path.is_file():
        return [path]
    found = [file for name in _COMPONENTS for file in sorted(path.glob(f"{name}/*.safetensors"))]
    return [file for file in found if not any(f".{mark}" in file.name for mark in ("fp16", "bf16", "non_ema"))] or found


def _numbers(path: Path) -> int:
    return sum(map(math.prod, Header.read(path).shapes.values()))


def _counter(path: Path) -> Callable[[str], int] | None:
    if not (path / "tokenizer").is_dir():
        return None
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError):  # what opening the base will complain about, in its own words
        return None
    return lambda caption: _cut(tokenizer, caption)


def _cut(tokenizer: "transformers.CLIPTokenizer", caption: str) -> int:
    return max(0, len(tokenizer(caption, truncation=False, verbose=False).input_ids) - int(tokenizer.model_max_length))


def _pixels(path: Path) -> int:
    """Pixels a side of one latent: each but the last block of the VAE halves them."""
    config = path / "vae" / "config.json"
    try:
        return 1 << (len(json.loads(config.read_text(encoding="utf-8"))["block_out_channels"]) - 1)
    except (OSError, ValueError, KeyError, TypeError):
        return 8
