"""File -> Inspection."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loraloom.bases import Base
from loraloom.bases.detect import by_family, detect
from loraloom.catalogue.inspecting.doubts import doubts, hash_doubt
from loraloom.catalogue.inspecting.hashes import hashes
from loraloom.catalogue.inspecting.inspection import Component, Inspection, Key, Share
from loraloom.catalogue.inspecting.modules import Module, Modules, modules
from loraloom.catalogue.inspecting.numbers import numbers
from loraloom.catalogue.inspecting.training import arguments, training
from loraloom.catalogue.sidecar import read_sidecar
from loraloom.catalogue.triggers import triggers
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.dialects.reading import alpha_from
from loraloom.tensorfile import Header

Progress = Callable[[int], None]


def inspect(path: str | Path, *, hash: bool = False, keys: bool = False, progress: Progress | None = None) -> Inspection:
    """All that a file's header says: no torch, no large tensor is read. `hash` reads the whole file once, and `progress` gets the
    bytes so far; `keys` lists every tensor.

    A file that fits no base is described all the same. Raises FileError subclasses for one that is no safetensors file.
    """
    header = Header.read(path)
    found = detect(header.shapes, header.metadata)
    base = by_family(found.family) if found.family else None
    held = modules(header, base)
    told, values = training(header.metadata), numbers(header, held.found)
    hashed = hashes(header, header.metadata.get("sshs_model_hash", ""), progress=progress) if hash else None
    warnings = [*doubts(header, held, values, told), *(hash_doubt(hashed) if hashed else ())]
    groups = [module.keys for module in held.found]
    return Inspection(
        name=header.path.name,
        size=header.file_size,
        tensors=len(header.entries),
        dtypes=_dtypes(header),
        family=found.family,
        base=found.title,
        confidence=found.confidence,
        evidence=found.evidence,
        contradictions=found.contradictions,
        dialect=held.dialect,
        types=held.types,
        modules=len(held.found),
        ranks=values.ranks,
        alphas=values.alphas,
        alpha_from=alpha_from(groups, header.metadata) if values.ranks else "",
        rslora=_rslora(header.metadata),
        dora=values.dora,
        components=tuple(_components(held.found, base)),
        words=tuple(dict.fromkeys(word for word, _ in (held.words or {}).values())),
        unused=held.unused,
        triggers=triggers(read_sidecar(header.path), header.metadata).words,
        training=told,
        warnings=tuple(warnings),
        problem=held.problem,
        hashes=hashed,
        keys=tuple(_keys(header, held)) if keys else (),
    )


def _dtypes(header: Header) -> dict[str, int]:
    found: Counter[str] = Counter()
    for entry in header.entries.values():
        found[entry.dtype] += entry.stop - entry.start
    return dict(found.most_common())


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


def _keys(header: Header, held: Modules) -> Iterator[Key]:
    """In the order of the file."""
    owners = {key: module for module in held.found for key in module.keys}
    reasons = {unused.key: unused.reason for unused in held.unused}
    words = held.words or {}
    for name, entry in header.entries.items():
        owner = owners.get(name)
        target, kind = (owner.name, owner.type.name) if owner and owner.type else ("", "")
        if name in words:
            target, kind = f"{words[name][1]}: {words[name][0]}", "embedding"
        yield Key(name, entry.dtype, entry.shape, target, kind, reasons.get(name, ""))
