"""File -> LoraFile: recognise the base, match the names, take the tensors."""

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom import tensorfile
from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.bases.detect import UNKNOWN, Detection, by_family, detect
from loraloom.dialects import folder
from loraloom.dialects.doubts import doubts
from loraloom.dialects.matching import Match, match
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.dialects.placing import nameless
from loraloom.errors import MatchError, UnknownFormat, WrongBase
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header

if TYPE_CHECKING:
    from torch import Tensor


def read(path: str | Path, base: Base | None = None, *, force: bool = False) -> LoraFile:
    """Every adapter of a file, or of a folder of PEFT's, on the CPU, in the file's dtype; keys that fit nothing are in `unknown`
    with the reason.

    Without `base` the file's own family is used. Raises FileError subclasses for a file that cannot be used, WrongBase if
    it was made for another family than `base` (not with `force`: then what fits by name and shape is read), NothingApplied
    if no key fits, ShapeMismatch if names fit and no shape does.
    """
    path = Path(path)
    parts = folder.opened(path)
    metadata = parts[0].header.metadata
    found = detect(ChainMap(*(dict(part.shapes()) for part in parts)) if len(parts) > 1 else parts[0].shapes(), metadata)
    base, warnings = _choose(path, found, base, parts, force=force)
    adapters: dict[Target, Adapter] = {}
    embeddings: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    try:
        matches = _matches(parts, base, unknown)
    except MatchError as error:
        if found.title in (base.title, UNKNOWN) or force:
            raise
        raise WrongBase(f"{_made_for(path, found)}; the base is {base.title}, and nothing of it fits: {error}") from error
    for header, matched in matches:
        wanted = [*matched.words, *matched.repeated, *(key for keys in matched.groups.values() for key in keys)]
        tensors = tensorfile.load_tensors(header, wanted)
        adapters |= _adapters(header, matched, tensors, base)
        for key, (word, component) in matched.words.items():
            embeddings.setdefault(word, {})[component] = tensors[key]
        unknown += (*matched.unknown, *_different(matched.repeated, tensors))
    return LoraFile(
        adapters,
        dict(metadata),
        base.family,
        tuple(unknown),
        (*warnings, *(f"{path.name}: {sentence}" for sentence in doubts(matches))),
        matches[0][1].dialect.name,
        path,
        made_for=f"{found.title} ({'; '.join(found.evidence)})" if found.evidence else UNKNOWN,
        alpha_from=alpha_from([matched for _, matched in matches], metadata),
        embeddings=embeddings,
    )


def _different(repeated: Mapping[str, str], tensors: "Mapping[str, Tensor]") -> Iterator[str]:
    """The copies that are none: their tensors are not used."""
    for key, first in repeated.items():
        if not tensors[key].equal(tensors[first]):
            yield f"{key}: names the same tensor as {first} and holds another one; {first} is used"


def _matches(parts: Iterable[folder.Part], base: Base, unknown: list[str]) -> list[tuple[Header, Match]]:
    """The parts of which something fits; the keys of the others go to `unknown`. Raises the first's error if none fits."""
    found, first = [], None
    for header, component in parts:
        try:
            found.append((header, match(header, base, component)))
        except MatchError as error:
            first = first or error
            unknown += [f"{key}: {error}" for key in header.entries]
    if not found and first is not None:
        raise first
    return found


def _adapters(header: Header, matched: Match, tensors: "Mapping[str, Tensor]", base: Base) -> dict[Target, Adapter]:
    adapters = {}
    shapes = [{suffix: header.entries[key].shape for key, suffix in keys.items()} for keys in matched.groups.values()]
    for target, keys in matched.groups.items():
        group = {suffix: tensors[key] for key, suffix in keys.items()}
        fixed = matched.named_by[target].fix(group, matched.spelled(target), base.by_target[target], header.metadata)
        kind = matched.kinds[target]
        adapters[target] = kind.from_tensors(kind.settled(fixed, base.by_target[target].shape, shapes))
    return adapters


def alpha_from(matches: Iterable[Match], metadata: Mapping[str, str]) -> str:
    """Where the scales come from, in words: formats.md §2, "alpha traps"."""
    given = [
        bool({"alpha", "scale"} & set(keys.values()))
        for matched in matches
        for target, keys in matched.groups.items()
        if "alpha" in matched.kinds[target].suffixes()
    ]
    if all(given):
        return "alpha from the file" if given else "no alpha: these types have none"
    rest = "alpha from its config" if PEFT_CONFIG in metadata else "no alpha given: alpha is the rank"
    return f"alpha from the file on {sum(given)} modules; on the others {rest}" if any(given) else rest


def _choose(path: Path, found: Detection, base: Base | None, parts: Sequence[folder.Part], *, force: bool) -> tuple[Base, tuple[str, ...]]:
    """The base to match against, and what is doubtful about it."""
    warnings = tuple(f"{path.name}: {sentence}" for sentence in found.contradictions)
    if base is None:
        own = by_family(found.family) if found.family else None
        if own is None:
            says, fields = nameless(path.name, found, parts)
            raise UnknownFormat(says, fields=fields)
        return own, warnings
    if found.title == base.title:
        return base, warnings
    if not found.rules_out({base.title}):
        return base, (*warnings, f"{_made_for(path, found)}; matched with {base.title} by names and shapes")
    mismatch = f"{_made_for(path, found)}; the base is {base.title}{_same_width(found, base)}"
    if not force:
        raise WrongBase(f"{mismatch}. Use a LoRA for {base.title}, or a base of {_family(found)}")
    return base, (*warnings, f"{mismatch}, and this was forced")


def _family(found: Detection) -> str:
    return "the family that it was made for" if found.title == UNKNOWN else found.title


def _made_for(path: Path, found: Detection) -> str:
    if found.title == UNKNOWN:
        return f"{path.name} does not say what base it was made for" + (f" ({found.evidence[-1]})" if found.evidence else "")
    return f"{path.name} was made for {found.title} ({found.evidence[-1]})"


def _same_width(found: Detection, base: Base) -> str:
    """The base's counterpart of the width that tells the file's family."""
    widths = {"cross-attention": base.context_width, "text encoder": " and ".join(map(str, base.text_widths))}
    return next((f" ({width})" for what, width in widths.items() if found.evidence[-1].startswith(what)), "")
