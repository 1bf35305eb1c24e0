"""What a file's header and its sidecars say about it. Damaged files say why instead."""

from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from loraloom import dialects
from loraloom.bases.detect import by_family
from loraloom.catalogue.looking import looking_at
from loraloom.catalogue.scan import Item
from loraloom.catalogue.sidecar import MAX_WORD, as_words, preview, read_sidecar
from loraloom.catalogue.triggers import triggers
from loraloom.dialects import folder
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.errors import FileError, LoraError
from loraloom.peek import peek


@dataclass(frozen=True)
class Facts:
    """`problem` is why the file cannot be used; what could be read is there all the same."""

    family: str = ""  # "sd1"; empty: none that loraloom runs
    title: str = ""  # "SD 1.x", also for families that loraloom only recognises
    types: tuple[str, ...] = ()  # most frequent first
    rank: str = ""  # as the file says it
    modules: int = 0
    triggers: tuple[str, ...] = ()
    sure: tuple[str, ...] = ()  # those of `triggers` that a prompt may be given unasked
    tags: tuple[str, ...] = ()  # what it is about
    aliases: tuple[str, ...] = ()  # names that the metadata gives
    hash: str = ""  # sshs_model_hash, hex; empty: not in the metadata
    notes: str = ""  # of the user
    strength: float | None = None  # preferred; None: the setting
    base_told: str = ""  # what the notes beside the file say that it was made for
    favorite: bool = False  # of the user
    preview: Path | None = None
    beside: tuple[str, ...] = ()  # what could not be read of the notes beside the file, in sentences
    problem: str = ""
    read: bool = True  # False: the system did not let it be read, which may be over the next time
    complete: bool = True  # False: only metadata and sidecars were read, so types, modules and perhaps family are missing


class Structure(NamedTuple):
    """What follows from the entries of a header, and from what its metadata says of the base."""

    family: str = ""
    title: str = ""
    types: tuple[str, ...] = ()
    modules: int = 0
    problem: str = ""


# What of the metadata, beside the tensors' names and shapes, a structure follows from.
_COUNTED = ("ss_base_model_version", "modelspec.architecture", "ss_v2", PEFT_CONFIG)
Structures = MutableMapping[object, Structure]  # by layout


def read_told(item: Item) -> Facts:
    """What metadata and sidecars say. A file that is damaged beyond that is complete."""
    return _looked_at(item, _told)


def _told(item: Item) -> Facts:
    metadata = peek(item.path).metadata
    found = dialects.detect({}, metadata)
    known = Structure(found.family or "", found.title if found.confident else "")
    return _facts(item, metadata, known, complete=False)


def read_facts(item: Item, structures: Structures | None = None) -> Facts:
    """Everything; `structures` spares the entries of layouts that were met before, and learns new ones."""
    return _looked_at(item, lambda item: _all(item, structures))


def _all(item: Item, structures: Structures | None) -> Facts:
    found = peek(item.path, layout=True)
    key = (found.layout, *(found.metadata.get(name) for name in _COUNTED), folder.is_beside(item.path) and (item.path.parent, item.config))
    structure = structures.get(key) if structures is not None else None
    if structure is None:
        structure = _structure(item, folder.opened(item.path)[0])
        if structures is not None:
            structures[key] = structure
    return _facts(item, found.metadata, structure)


def _looked_at(item: Item, look: Callable[[Item], Facts]) -> Facts:
    """What `look` finds; else why not, and what lies beside the file. No exception leaves it."""
    try:
        with looking_at(item.path):
            return look(item)
    except LoraError as error:
        # Subclasses say what is wrong with the content, FileError itself what the system said.
        problem, read = _plain(item, error), type(error) is not FileError
    try:
        with looking_at(item.path):
            return _facts(item, {}, Structure(problem=problem), read=read)
    except LoraError:  # what lies beside it cannot be read either
        return Facts(problem=problem, read=read)


def _structure(item: Item, part: folder.Part) -> Structure:
    found = dialects.detect(part.shapes(), part.header.metadata)
    base = by_family(found.family) if found.family else None
    if base is None:
        return Structure(found.family or "", found.title, problem=f"made for {found.title}, which loraloom does not run yet")
    try:
        with looking_at(item.path):
            types = Counter(kind.name for kind in dialects.match(part.header, base, part.component).kinds.values())
    except LoraError as error:
        return Structure(base.family, found.title, problem=_plain(item, error))
    return Structure(base.family, found.title, tuple(name for name, _ in types.most_common()), types.total())


def _facts(item: Item, metadata: Mapping[str, str], structure: Structure, *, read: bool = True, complete: bool = True) -> Facts:
    endings = [each.ending for each in item.beside]
    sidecar = read_sidecar(item.path, endings)
    words = triggers(sidecar, metadata)
    return Facts(
        family=structure.family,
        title=structure.title,
        types=structure.types,
        modules=structure.modules,
        problem=structure.problem,
        rank=metadata.get("ss_network_dim", "")[:20],
        triggers=words.words,
        sure=words.sure,
        tags=tuple(dict.fromkeys((*sidecar.tags, *as_words(metadata.get("modelspec.tags"))))),
        aliases=tuple(
            dict.fromkeys(
                name
                for name in (*(metadata.get(key, "") for key in ("ss_output_name", "modelspec.title")), *sidecar.names)
                if 0 < len(name) <= MAX_WORD
            )
        ),
        hash=metadata.get("sshs_model_hash", "").removeprefix("0x")[:64],
        notes=sidecar.notes,
        strength=sidecar.strength,
        base_told=sidecar.base,
        favorite=sidecar.favorite,
        beside=sidecar.problems,
        preview=preview(item.path, endings),
        read=read,
        complete=complete,
    )


def _plain(item: Item, error: LoraError) -> str:
    """The error without the path, which stands beside it, as text that can be stored."""
    text = str(error).removeprefix(f"{item.path}: ").removeprefix(f"{item.path.name}: ")
    return text.encode("utf-8", "replace").decode()
