"""File -> LoraFile: recognise the base, match the names, take the tensors."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom import tensorfile
from loraloom.adapters import read_adapter
from loraloom.bases import BASES, Base
from loraloom.bases.detect import UNKNOWN, Detection, by_family, detect
from loraloom.dialects.matching import match
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.errors import UnknownFormat, WrongBase
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header

if TYPE_CHECKING:
    from torch import Tensor


def read(path: str | Path, base: Base | None = None, *, force: bool = False) -> LoraFile:
    """Every adapter of a file, on the CPU, in the file's dtype; keys that fit nothing are in `unknown` with the reason.

    Without `base` the file's own family is used. Raises FileError subclasses for a file that cannot be used, WrongBase if
    it was made for another family than `base` (not with `force`: then what fits by name and shape is read), NothingApplied
    if no key fits, ShapeMismatch if names fit and no shape does.
    """
    header = Header.read(path)
    found = detect(header.shapes, header.metadata)
    base, warnings = _choose(header.path, found, base, force=force)
    dialect, groups, unknown, words = match(header, base)
    adapters = {}
    tensors = tensorfile.load_tensors(header, [*words, *(key for keys in groups.values() for key in keys)])
    shapes = [{suffix: header.entries[key].shape for key, suffix in keys.items()} for keys in groups.values()]
    for target, keys in groups.items():
        group = {suffix: tensors[key] for key, suffix in keys.items()}
        spelled = {suffix: key for key, suffix in keys.items()}
        fixed = dialect.fix(group, spelled, target, header.metadata)
        adapters[target] = read_adapter(fixed, base.by_target[target].shape, shapes)
    return LoraFile(
        adapters,
        dict(header.metadata),
        base.family,
        unknown,
        warnings,
        dialect.name,
        header.path,
        made_for=f"{found.title} ({'; '.join(found.evidence)})" if found.evidence else UNKNOWN,
        alpha_from=_alpha_from(groups.values(), header.metadata),
        embeddings=_embeddings(words, tensors),
    )


def _embeddings(words: Mapping[str, tuple[str, str]], tensors: "Mapping[str, Tensor]") -> "dict[str, dict[str, Tensor]]":
    found: dict[str, dict[str, Tensor]] = {}
    for key, (word, component) in words.items():
        found.setdefault(word, {})[component] = tensors[key]
    return found


def _alpha_from(groups: Iterable[Mapping[str, str]], metadata: Mapping[str, str]) -> str:
    """Where the scales come from, in words: formats.md §2, "alpha traps"."""
    given = [bool({"alpha", "scale"} & set(keys.values())) for keys in groups]
    if all(given):
        return "alpha from the file"
    rest = "alpha from its metadata" if PEFT_CONFIG in metadata else "no alpha given: alpha is the rank"
    return f"alpha from the file on {sum(given)} modules; on the others {rest}" if any(given) else rest


def _choose(path: Path, found: Detection, base: Base | None, *, force: bool) -> tuple[Base, tuple[str, ...]]:
    """The base to match against, and what is doubtful about it."""
    warnings = tuple(f"{path.name}: {sentence}" for sentence in found.contradictions)
    if base is None:
        own = by_family(found.family) if found.family else None
        if own is None:
            known = ", ".join(item.title for item in BASES)
            raise UnknownFormat(f"{_made_for(path, found)}; loraloom knows {known}. Name a base to match by names and shapes")
        return own, warnings
    if not found.confident:
        return base, (*warnings, f"{_made_for(path, found)}; matched with {base.title} by names and shapes")
    if found.title == base.title:
        return base, warnings
    mismatch = f"{_made_for(path, found)}; the base is {base.title}{_same_width(found, base)}"
    if not force:
        raise WrongBase(f"{mismatch}. Use a LoRA for {base.title}, or another base")
    return base, (*warnings, f"{mismatch}, and this was forced")


def _made_for(path: Path, found: Detection) -> str:
    if found.title == UNKNOWN:
        return f"{path.name} does not say what base it was made for" + (f" ({found.evidence[-1]})" if found.evidence else "")
    return f"{path.name} was made for {found.title} ({found.evidence[-1]})"


def _same_width(found: Detection, base: Base) -> str:
    """The base's counterpart of the width that tells the file's family."""
    widths = {"cross-attention": base.context_width, "text encoder": " and ".join(map(str, base.text_widths))}
    return next((f" ({width})" for what, width in widths.items() if found.evidence[-1].startswith(what)), "")
