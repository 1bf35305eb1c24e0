"""A file in another form: read, made into another type, written in another dialect or as another program reads it, read back. Nothing
is lost unless that was allowed."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from loraloom import dialects, pickled
from loraloom.atomic import refuse_existing
from loraloom.bases import Base
from loraloom.bases.detect import by_family
from loraloom.combine import EXACT, Fitted, Goal, Weights, as_read, as_type, commonest_dtype, rounding
from loraloom.combine import plain as plain_factors
from loraloom.dialects import folder as peft_folder
from loraloom.dialects import readers
from loraloom.dialects.base import Dialect
from loraloom.dialects.metadata import resized
from loraloom.dialects.publishing import DTYPES, publish
from loraloom.dialects.repair import Repaired, repaired
from loraloom.dialects.writing import spelled
from loraloom.errors import BaseError, SettingsError
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import is_pickle
from loraloom.tensorfile.dtypes import named_dtype


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
    errors: Mapping[str, float]  # of each module whose change is not the source's own: how much is left out, relative (Frobenius)
    left_out: tuple[str, ...]  # what of the source is not in it, each with its reason
    warnings: tuple[str, ...]
    tool: str | None = None  # the program that it was written for
    repaired: tuple[str, ...] = ()  # what a repair changed, each a sentence


def convert(
    source: Path,
    output: Path,
    *,
    dialect: str | None = None,
    tool: str | None = None,
    goal: Goal = EXACT,
    plain: bool = False,
    dtype: str | None = None,
    base: Base | None = None,
    weights: Weights | None = None,
    overwrite: bool = False,
    repair: bool = False,
) -> Converted:
    """Write `source` to `output`, whose folder is made. `dtype` is fp16, bf16 or fp32; None keeps most of the values as they are.
    The goal's type is that of every adapter of the new file, without loss unless the goal says how much may be lost. `plain`: all of it
    as LoRAs of two factors, without biases and norms, which are named.

    `tool` is a program of `dialects.readers`: the new file is in the naming that it reads best, and what it does not read as it is meant
    is of the goal's type, else of one that it reads. `weights` are the base's, for types whose change depends on them; without `tool`
    and `plain` they are not used. The dialect is kohya if neither is given.

    `repair` leaves out the modules whose values nobody can use and writes metadata that says what the tensors have; never in the source's
    own place.

    A pickle is opened in a process of its own. `output` gets its name only after it was read back and has every module. Raises FileError,
    MatchError, NotSupported where it cannot be done without loss, Taken if something is there already or appears meanwhile.
    """
    if tool is not None and dialect is not None:
        raise SettingsError(f"for {tool} in {dialect} naming: give one of the two; the program's own naming is taken", fields=("dialect",))
    named = readers.naming(tool, dialect or "kohya")
    dtype = named_dtype(dtype)
    if goal.type is None and not goal.exact and tool is None and not plain:
        raise SettingsError(
            f"{goal.words}: of which type? `convert` loses something only for another type; `resize` makes a network smaller"
        )
    refuse_existing(output, overwrite=overwrite)
    if repair and output.resolve() == source.resolve():
        raise SettingsError(f"{source}: a repaired network gets a name of its own, so that what was there can be looked at again")
    with _read(source, base, repair=repair) as (file, left_out, told):
        found = by_family(file.base)
        if found is None:
            raise BaseError(f"{source.name}: the family {file.base!r} has no table here")
        fitted, kind, notes = _fitted(file, found, named, tool, goal, plain=plain, weights=weights)
        changed = fitted.file
        name = DTYPES[dtype] if dtype else commonest_dtype(changed if goal.exact else file)
        worst, lost = rounding(spelled(kind, changed.adapters, found), getattr(torch, name))
        if repair:
            told += _counts(file)
        kept = resized(file.metadata, changed.adapters) if changed is not file or repair else file.metadata
        made = replace(changed, metadata={**kept, "loraloom.converted_from": _provenance(source, file, name)})
        publish(made, found, output, kind.name, name, overwrite=overwrite)
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
        {str(target): error for target, error in fitted.errors.items()},
        (*file.unknown, *left_out, *fitted.left_out),
        (*file.warnings, *notes),
        tool,
        told,
    )


def _fitted(
    file: LoraFile, base: Base, dialect: Dialect, tool: str | None, goal: Goal, *, plain: bool, weights: Weights | None
) -> tuple[Fitted, Dialect, tuple[str, ...]]:
    """The network as it was asked for, the naming that it gets, and what is worth to know about who reads it."""
    if plain:
        fitted = plain_factors(file, base, goal, weights)
    elif tool is None and goal.type:
        fitted = Fitted(*as_type(file, base, goal))
    else:
        fitted = Fitted(file, {})
    if tool is None:
        return fitted, dialect, readers.notes(fitted.file, base, dialect.name)
    reads = readers.likeliest(fitted.file, base, tool)
    read = as_read(fitted.file, base, partial(readers.unread, reads), goal, weights)
    every = Fitted(read.file, {**fitted.errors, **read.errors}, fitted.left_out)
    return every, dialects.by_name(reads.dialect), tuple(readers.told(read.file, base, reads))


@contextmanager
def _read(source: Path, base: Base | None, *, repair: bool) -> Iterator[tuple[LoraFile, tuple[str, ...], tuple[str, ...]]]:
    """The network, what a pickle held besides tensors, and what was repaired."""
    with _unpickled(source) as (path, left_out), repaired(path, base) if repair else nullcontext(Repaired(path, ())) as sound:
        yield dialects.read(sound.path, base), left_out, sound.told


@contextmanager
def _unpickled(source: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The network as safetensors, and what a pickle held besides tensors."""
    pickles = _pickles(source)
    if not pickles:
        yield source, ()
        return
    with tempfile.TemporaryDirectory(prefix="loraloom-") as folder, ExitStack() as open_ones:
        left_out: list[str] = []
        for pickle in pickles:
            found = open_ones.enter_context(pickled.opened(pickle))
            left_out += (f"{name}: is no tensor" for name in found.left_out)
            copy = _beside_its_config(found.path, pickle, Path(folder))
        yield copy if len(pickles) == 1 else Path(folder), tuple(left_out)


def _counts(file: LoraFile) -> tuple[str, ...]:
    """What the metadata says of ranks and alphas and the tensors do not have, in sentences; it is written as they have it."""
    ranks = {scaling[0] for adapter in file.adapters.values() if (scaling := adapter.scaling()) is not None}
    said = file.metadata.get("ss_network_dim", "")
    told = []
    if ranks and said and said not in {"Dynamic", *map(str, ranks)}:
        told.append(f"metadata, ss_network_dim: said {said[:20]!r}, and the ranks are {', '.join(map(str, sorted(ranks)[:8]))}")
    if file.alpha_from.startswith("no alpha given"):
        told.append("alpha: there was none, which means the rank; it is written")
    return tuple(told)


def _pickles(source: Path) -> tuple[Path, ...]:
    """The pickles that are the network: the file itself, or those of a folder of PEFT's."""
    if source.is_dir():
        return () if peft_folder.held(source, peft_folder.WEIGHTS) else peft_folder.held(source, peft_folder.PICKLE)
    return (source,) if is_pickle(source) else ()  # whatever it is called


def _beside_its_config(path: Path, pickle: Path, folder: Path) -> Path:
    """The safetensors file of a pickle below `folder`, as it stood: beside PEFT's config, in a folder of the same name."""
    place = folder / pickle.absolute().parent.name
    place.mkdir(exist_ok=True)
    is_pefts = pickle.name == peft_folder.PICKLE
    copy = path.rename(place / (peft_folder.WEIGHTS if is_pefts else path.name))
    with suppress(FileNotFoundError):
        shutil.copyfile(pickle.with_name(peft_folder.CONFIG), place / peft_folder.CONFIG)
    return copy


def _types(file: LoraFile) -> dict[str, int]:
    return dict(Counter(adapter.name for adapter in file.adapters.values()).most_common())


def _provenance(source: Path, file: LoraFile, dtype: str) -> str:
    """Where it comes from: the name without its folders, which may hold their owner's."""
    told = {"file": source.name, "dialect": file.dialect, "types": _types(file), "dtype": dtype, "unused": len(file.unknown)}
    if hashed := file.metadata.get("sshs_model_hash"):
        told["sshs_model_hash"] = hashed[:66]
    return json.dumps(told, ensure_ascii=False)
