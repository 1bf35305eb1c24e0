"""File -> Inspection."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loraloom.bases import Base
from loraloom.bases.detect import by_family, detect
from loraloom.catalogue.inspecting.doubts import doubts, hash_doubt
from loraloom.catalogue.inspecting.hashes import hashes
from loraloom.catalogue.inspecting.inspection import Component, Inspection, Key, Share
from loraloom.catalogue.inspecting.modules import Held, Module, held, types
from loraloom.catalogue.inspecting.numbers import numbers
from loraloom.catalogue.inspecting.training import arguments, training
from loraloom.catalogue.looking import looking_at
from loraloom.catalogue.sidecar import read_sidecar
from loraloom.catalogue.triggers import triggers
from loraloom.dialects import folder
from loraloom.dialects.doubts import doubts as read_doubts
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.dialects.reading import alpha_from
from loraloom.tensorfile import Header


def inspect(path: str | Path, *, hash: bool = False, keys: bool = False) -> Inspection:
    """All that the header of a file, or of each file of a PEFT folder, says: no torch, no large tensor is read. `hash` reads the
    whole (first) file once; `keys` lists every tensor.

    A file that fits no base is described all the same. Raises FileError subclasses for one that is no safetensors file, or that cannot
    be looked at for another reason.
    """
    with looking_at(Path(path)):
        return _inspect(Path(path), hash=hash, keys=keys)


def _inspect(path: Path, *, hash: bool, keys: bool) -> Inspection:
    parts = folder.opened(path)
    headers, metadata = [part.header for part in parts], parts[0].header.metadata
    found = detect({key: shape for part in parts for key, shape in part.shapes().items()}, metadata)
    base = by_family(found.family) if found.family else None
    files = [held(part, base) for part in parts]
    notes = read_sidecar(path)
    told, values = training(metadata), numbers(files)
    hashed = hashes(headers[0], metadata.get("sshs_model_hash", "")) if hash else None
    warnings = [*doubts(files, values, told), *(hash_doubt(hashed) if hashed else ()), *notes.problems]
    warnings += read_doubts([(each.header, each.match) for each in files if each.match])
    modules = [module for each in files for module in each.modules]
    return Inspection(
        name=path.name or path.resolve().name,
        size=sum(header.file_size for header in headers),
        tensors=sum(len(header.entries) for header in headers),
        dtypes=_dtypes(headers),
        family=found.family,
        base=found.title,
        confidence=found.confidence,
        evidence=found.evidence,
        contradictions=found.contradictions,
        dialect=max(files, key=lambda each: len(each.modules)).dialect,
        types=types(files),
        modules=len(modules),
        ranks=values.ranks,
        alphas=values.alphas,
        alpha_from=_alpha_from(files, metadata),
        rslora=_rslora(metadata),
        dora=values.dora,
        components=tuple(_components(modules, base)),
        words=tuple(dict.fromkeys(word for each in files for word, _ in each.words.values())),
        unused=tuple(unused for each in files for unused in each.unused),
        triggers=triggers(notes, metadata).words,
        training=told,
        warnings=tuple(warnings),
        problem="; ".join(dict.fromkeys(each.problem for each in files if each.problem)),
        hashes=hashed,
        keys=tuple(key for each in files for key in _keys(each)) if keys else (),
    )


def _dtypes(headers: Iterable[Header]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for header in headers:
        for entry in header.entries.values():
            found[entry.dtype] += entry.stop - entry.start
    return dict(found.most_common())


def _alpha_from(files: Iterable[Held], metadata: Mapping[str, str]) -> str:
    matches = [each.match for each in files if each.match]
    return alpha_from(matches, metadata) if matches else ""


def _rslora(metadata: Mapping[str, str]) -> bool:
    """alpha/√r instead of alpha/r, by LyCORIS' or PEFT's metadata."""
    if arguments(metadata).get("rs_lora", "").lower() == "true":
        return True
    try:
        config = msgspec.json.decode(metadata.get(PEFT_CONFIG, "{}"), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
    return any(key.endswith("use_rslora") and value is True for key, value in config.items())


def _components(found: Iterable[Module], base: Base | None) -> Iterator[Component]:
    """In the order of the base, or of the file."""
    by_component = Counter(module.component for module in found)
    names = {module.name for module in found}
    if base is None:
        yield from (Component(name, count) for name, count in by_component.items())
        return
    known = {str(layer.target) for layer in base.layers}
    for name in base.components:
        layers = [layer for layer in base.layers if layer.target.component == name]
        attention = [str(layer.target) for layer in layers if layer.attention and layer.kind in ("linear", "conv")]
        rest = {str(layer.target) for layer in layers} - set(attention)
        if names & known:
            shares = (Share(len(names.intersection(each)), len(each)) for each in (attention, rest))
            yield Component(name, by_component[name], *shares)
        elif by_component[name]:
            yield Component(name, by_component[name])


def _keys(found: Held) -> Iterator[Key]:
    """In the order of the file."""
    owners = {key: module for module in found.modules for key in module.keys}
    reasons = {unused.key: unused.reason for unused in found.unused}
    for name, entry in found.header.entries.items():
        owner, word = owners.get(name), found.words.get(name)
        if owner:
            target, kind = owner.name, owner.type.name
        else:
            target, kind = (f"{word[1]}: {word[0]}", "embedding") if word else ("", "")
        yield Key(name, entry.dtype, entry.shape, target, kind, reasons.get(name, ""))
