"""A file with other metadata, or a part of its modules: what stays is the same bytes under the same names. No torch."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from loraloom import dialects
from loraloom.atomic import make_folder, refuse_existing
from loraloom.bases import Base
from loraloom.bases.detect import by_family, detect
from loraloom.combine import part
from loraloom.dialects import folder
from loraloom.dialects.fields import check_field
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.dialects.placing import nameless
from loraloom.errors import BaseError, FileError, NothingApplied, SettingsError, WriteFailed, suggestion
from loraloom.leftovers import forget_leftovers
from loraloom.lorafile import Metadata
from loraloom.rewrite import content_hash, rewrite
from loraloom.strength import Place
from loraloom.tensorfile import Header


class Change(NamedTuple):
    """One entry of the metadata; None where it is not there."""

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Edited:
    """What is different now. Modules are counted by component where a part was asked for."""

    path: Path
    changes: tuple[Change, ...]
    kept: Mapping[str, int]
    left_out: Mapping[str, int]
    tensors: tuple[int, int]  # before and after
    size: tuple[int, int]  # bytes, before and after
    unknown: tuple[str, ...]  # where a part was asked for: keys that belong to no module, each with its reason; they stay
    warnings: tuple[str, ...]
    written: bool  # False: the file was already as it was asked for, and was not touched


def edit(
    source: Path,
    output: Path | None = None,
    *,
    changes: Mapping[str, str | None] | None = None,
    only: Sequence[str] = (),
    base: Base | None = None,
    overwrite: bool = False,
) -> Edited:
    """Change the file, or write the changed file to `output`, whose folder is made. `changes` are texts by key of the metadata, None
    takes a key out; `only` leaves the modules of these parts (`combine.part`). `base` is for files that do not tell their family.

    The file gets its name when it is complete and was compared with the source. Raises FileError, SettingsError for what means
    nothing, BaseError and MatchError where the modules are not known or none would stay, WriteFailed.
    """
    if not changes and not only:
        raise SettingsError("nothing is to be changed; give metadata, or the parts that stay", fields=("set", "unset", "only"))
    header, target = _header(source), _target(source, output, overwrite=overwrite)
    metadata = _changed(header, changes or {})
    cut = _cut(header, only, base) if only else _Cut(frozenset(header.entries))
    if len(cut.names) < len(header.entries):
        metadata = _stamped(header, metadata, cut, only)
    found = tuple(_differences(header.metadata, metadata))
    written = bool(found) or len(cut.names) < len(header.entries) or target != source
    if written:
        make_folder(target.parent)
        forget_leftovers(target.parent)
        rewrite(header, target, metadata, cut.names, overwrite=overwrite or target is source)
    return Edited(
        target,
        found,
        cut.kept,
        cut.left_out,
        (len(header.entries), len(cut.names)),
        (header.file_size, target.stat().st_size),
        cut.unknown,
        (*cut.warnings, *_doubts(header, metadata, cut.names)),
        written,
    )


def _header(source: Path) -> Header:
    """The file's header; a folder of PEFT's and the file inside are refused, as its config would have to change too."""
    if source.is_dir():
        folder.opened(source)  # says what is wrong with a folder that holds no network
    if source.is_dir() or folder.has_config(source):
        raise FileError(
            f"{source}: a folder of PEFT's keeps what describes the network beside it ({folder.CONFIG}); make one file of it first: "
            f"loraloom convert {source if source.is_dir() else source.parent} NEW.safetensors"
        )
    return Header.read(source)


def _target(source: Path, output: Path | None, *, overwrite: bool) -> Path:
    """Where the result goes. A link is not followed in silence: others may use the file that it leads to."""
    if output is not None:
        refuse_existing(output, overwrite=overwrite)
        return output
    if source.is_symlink():
        raise WriteFailed(f"{source}: is a link to {source.resolve()}; name that file to change it, or give a second name for a copy")
    return source


def _changed(header: Header, changes: Mapping[str, str | None]) -> dict[str, str]:
    """The metadata with the changes; raises SettingsError for one that means nothing, and for a key to take out that is not there."""
    metadata = dict(header.metadata)
    for key, value in changes.items():
        if value is None and key not in metadata:
            near = suggestion(key, metadata) or "; `loraloom edit` with the file alone shows what there is"
            raise SettingsError(f'{header.path.name}: there is no "{key}" in its metadata{near}')
        if value is None:
            del metadata[key]
        else:
            check_field(key, value)
            metadata[key] = value
    return metadata


class _Cut(NamedTuple):
    names: frozenset[str]  # of the tensors that stay
    base: Base | None = None
    kept: Mapping[str, int] = {}
    left_out: Mapping[str, int] = {}
    unknown: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _cut(header: Header, only: Sequence[str], base: Base | None) -> _Cut:
    """The tensors of these parts, and those that belong to no module."""
    found = detect(header.shapes, header.metadata)
    base = base or (by_family(found.family) if found.family else None)
    if base is None:
        says, fields = nameless(header.path.name, found, [folder.Part(header)])
        raise BaseError(f"which tensors belong to which part is not known: {says}", fields=fields)
    parts = {word: part(word, base) for word in only}
    match = dialects.match(header, base)
    owners = {key: base.by_target[target].place for target, keys in match.groups.items() for key in keys}
    owners |= {key: Place(component) for key, (_, component) in match.words.items()}
    places = [base.by_target[target].place for target in match.groups]
    meant = {place for place in {*owners.values()} if any(each(place) for each in parts.values())}
    if not meant:
        have = ", ".join(dict.fromkeys(place.component for place in owners.values()))
        raise NothingApplied(f"{header.path.name}: nothing of it is in {', '.join(only)}, so nothing would stay; it has {have}")
    return _Cut(
        frozenset(key for key in header.entries if key not in owners or owners[key] in meant),
        base,
        dict(Counter(place.component for place in places if place in meant)),
        dict(Counter(place.component for place in places if place not in meant)),
        match.unknown,
        tuple(f"{word}: the file has nothing there" for word, each in parts.items() if not any(map(each, owners.values()))),
    )


def _stamped(header: Header, metadata: Metadata, cut: _Cut, only: Sequence[str]) -> dict[str, str]:
    """The metadata of a file that has fewer tensors: new hashes, where it comes from, and its family where they do not tell it any more."""
    hashed = content_hash(header, cut.names)
    origin = {"file": header.path.name, "only": list(only), "tensors": f"{len(cut.names)} of {len(header.entries)}"}
    if before := header.metadata.get("sshs_model_hash"):
        origin["sshs_model_hash"] = before[:66]
    found = {key: value for key, value in metadata.items() if key != "sshs_legacy_hash"}
    found |= {"sshs_model_hash": hashed, "loraloom.pruned_from": json.dumps(origin, ensure_ascii=False)}
    if "modelspec.hash_sha256" in found:
        found["modelspec.hash_sha256"] = f"0x{hashed}"
    if cut.base is not None and _speaks_for(header, found, cut.names) != cut.base.title:
        found |= {"ss_base_model_version": cut.base.version, "modelspec.architecture": f"{cut.base.architecture}/lora"}
    return found


def _speaks_for(header: Header, metadata: Metadata, names: Collection[str]) -> str:
    return detect({name: header.shapes[name] for name in names}, metadata).title


def _differences(before: Metadata, after: Metadata) -> Iterator[Change]:
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key):
            yield Change(key, before.get(key), after.get(key))


def _doubts(header: Header, metadata: Metadata, names: Collection[str]) -> Iterator[str]:
    """What the file means differently now."""
    before, after = detect(header.shapes, header.metadata), detect({name: header.shapes[name] for name in names}, metadata)
    if after.title != before.title:
        yield f"it was recognised as made for {before.title}, and now for {after.title}"
    yield from (sentence for sentence in after.contradictions if sentence not in before.contradictions)
    if metadata.get(PEFT_CONFIG) != header.metadata.get(PEFT_CONFIG):
        yield f"{PEFT_CONFIG} says alpha where no tensor does, so the network may be stronger or weaker than it was"
