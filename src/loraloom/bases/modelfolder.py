"""Which files of a folder in diffusers' layout hold the weights of each component."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from loraloom.errors import BaseError, NotSafetensors
from loraloom.tensorfile import readable

_MAX_INDEX = 16 * 2**20  # bytes; the largest models' have 100 KB
_NAMES = ("diffusion_pytorch_model", "model")  # as diffusers and transformers call them
_USUAL = "fp16"  # the variant that is taken where there are several


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def weight_files(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """The files by component ("unet", "vae", ...); of each the plain ones, or those of a variant where there are no others.

    Raises BaseError for a folder whose UNet is only there as a pickle, or in several variants of which none is the usual one.
    """
    found = {part.name: held for part in sorted(folder.glob("*")) if part.is_dir() and (held := _files(part))}
    if "unet" not in found:
        pickles = sorted((folder / "unet").glob("*.bin"))
        what = f"{pickles[0].name} is a pickle, and only safetensors files are read" if pickles else "no unet/ with safetensors files in it"
        raise BaseError(f"{folder}: not a base model that can be read: {what}")
    return found


def _files(part: Path) -> tuple[Path, ...]:
    variants = {variant: held for name in _NAMES for variant, held in _variants(part, name).items()}
    if not variants:
        return ()
    chosen = next((variants[name] for name in ("", _USUAL) if name in variants), None)
    if chosen is None and len(variants) > 1:
        raise BaseError(f"{part}: its weights are there as {' and '.join(variants)}; leave the one that is meant")
    return chosen or next(iter(variants.values()))


def _variants(part: Path, name: str) -> Mapping[str, tuple[Path, ...]]:
    """Files by variant, "" for those without: `name.safetensors`, `name.fp16.safetensors`, or an index of several of either."""
    whole, index = re.compile(rf"{name}(?:\.(\w+))?\.safetensors"), re.compile(rf"{name}\.safetensors\.index(?:\.(\w+))?\.json")
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(part.glob("*")):
        if match := whole.fullmatch(path.name):
            found[match[1] or ""] = (path,)
        elif match := index.fullmatch(path.name):
            found.setdefault(match[1] or "", _shards(path))
    return found


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names; they stand beside it. Raises NotSafetensors for an index that is none."""
    with readable(index) as file:
        raw = file.read(_MAX_INDEX)
    try:
        names = sorted(set(msgspec.json.decode(raw, type=_Index).weight_map.values()))
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise NotSafetensors(f"{index}: this is not an index of safetensors files ({error}); download it again") from error
    if any(Path(name).name != name for name in names):
        raise NotSafetensors(f"{index}: it names files outside of its folder; download it again")
    return tuple(index.parent / name for name in names)
