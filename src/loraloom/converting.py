"""A file in another form: read, made into another type where that loses nothing, written in another dialect, read back."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from loraloom import dialects, pickled
from loraloom.bases import Base
from loraloom.bases.detect import by_family
from loraloom.combine import as_type, commonest_dtype, rounding
from loraloom.dialects.folder import replace_folder
from loraloom.errors import BaseError, DialectCannotHold, SettingsError, WriteFailed
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import is_pickle

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class Converted:
    """What was written. `rounding` is the most that a tensor's value moved, as a part of its largest one, and `worst` which tensor."""

    path: Path
    base: str
    dialect: str
    dtype: str
    modules: int
    types: Mapping[str, int]
    was: Mapping[str, int]  # types of the source
    rounding: float
    worst: str
    left_out: tuple[str, ...]  # what of the source is not in it, each with its reason
    warnings: tuple[str, ...]


def convert(
    source: Path,
    output: Path,
    *,
    dialect: str = "kohya",
    type: str | None = None,
    dtype: str | None = None,
    base: Base | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write `source` to `output`, whose folder is made. `dtype` is fp16, bf16 or fp32; None keeps most of the values as they are.

    A pickle is opened in a process of its own. `output` gets its name only after it was read back and has every module. Raises
    FileError, MatchError, NotSupported where it cannot be done without loss, WriteFailed if something is there already.
    """
    kind = dialects.by_name(dialect)
    if dtype is not None and dtype not in DTYPES:
        raise SettingsError(f"dtype {dtype}: networks are written as {', '.join(DTYPES)}")
    if output.exists() and not overwrite:
        raise WriteFailed(f"{output} is there already and was not touched; give another name, or --overwrite")
    with _read(source, base) as (file, left_out):
        found = by_family(file.base)
        if found is None:
            raise BaseError(f"{source.name}: the family {file.base!r} has no table here")
        changed = as_type(file, found, type) if type else file
        name = DTYPES[dtype] if dtype else commonest_dtype(changed)
        worst, lost = rounding(changed, getattr(torch, name))
        made = replace(changed, metadata={**file.metadata, "loraloom.converted_from": _provenance(source, file, name)})
        _write(made, found, output, kind.name, name)
    return Converted(
        output,
        found.title,
        kind.title,
        name,
        len(made.adapters),
        _types(made),
        _types(file),
        lost,
        worst,
        (*file.unknown, *left_out),
        file.warnings,
    )


@contextmanager
def _read(source: Path, base: Base | None) -> Iterator[tuple[LoraFile, tuple[str, ...]]]:
    if source.suffix.lower() not in pickled.SUFFIXES or not is_pickle(source):
        yield dialects.read(source, base), ()
        return
    with pickled.opened(source) as (path, left_out):
        yield dialects.read(path, base), tuple(f"{name}: is no tensor" for name in left_out)


def _write(file: LoraFile, base: Base, output: Path, dialect: str, dtype: str) -> None:
    """Atomic: beside its place first, read back there, then renamed."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".loraloom-", dir=output.parent) as folder:
            written = dialects.write(file, Path(folder) / output.name, dialect, dtype=getattr(torch, dtype))
            _compare(file, dialects.read(written, base, force=True), dialect)
            if written.is_dir():
                replace_folder(written, output)
            else:
                written.replace(output)
    except OSError as error:
        raise WriteFailed(f"{output}: could not be written: {error.strerror or error}; nothing that was there has changed") from error


def _compare(made: LoraFile, back: LoraFile, dialect: str) -> None:
    kinds = {target: adapter.name for target, adapter in back.adapters.items()}
    lost = [str(target) for target, adapter in made.adapters.items() if kinds.get(target) != adapter.name]
    lost += [f"the embedding {word}" for word in made.embeddings if word not in back.embeddings]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise DialectCannotHold(f"{dialect} naming does not give back {lost[0]}{more}, so nothing was written; choose another dialect")


def _types(file: LoraFile) -> dict[str, int]:
    return dict(Counter(adapter.name for adapter in file.adapters.values()).most_common())


def _provenance(source: Path, file: LoraFile, dtype: str) -> str:
    """Where it comes from: the name without its folders, which may hold their owner's."""
    told = {"file": source.name, "dialect": file.dialect, "types": _types(file), "dtype": dtype, "unused": len(file.unknown)}
    if hashed := file.metadata.get("sshs_model_hash"):
        told["sshs_model_hash"] = hashed[:66]
    return json.dumps(told, ensure_ascii=False)
