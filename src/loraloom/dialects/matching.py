"""Header -> which tensors are whose: every key becomes part of a target's adapter or gets a reason. No torch."""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from loraloom.adapters import adapter_type, no_type
from loraloom.bases import Base, Target
from loraloom.dialects.base import Dialect, split
from loraloom.dialects.bundled import bundled
from loraloom.dialects.kohya import Kohya
from loraloom.dialects.peft import Peft
from loraloom.errors import FileError, NothingApplied, ShapeMismatch, UnknownFormat, suggestion
from loraloom.tensorfile import Header

DIALECTS: tuple[Dialect, ...] = (Kohya(), Peft())


def by_name(name: str) -> Dialect:
    """The dialect of this name; raises UnknownFormat, naming the nearest."""
    known = {dialect.name: dialect for dialect in DIALECTS}
    if name not in known:
        hint = suggestion(name, known) or f"; known are {', '.join(known)}"
        raise UnknownFormat(f"no dialect named {name!r}{hint}")
    return known[name]


class Match(NamedTuple):
    """Every key of a file is in `groups`, `words` or `unknown`."""

    dialect: Dialect
    groups: Mapping[Target, Mapping[str, str]]  # key -> our suffix; each group is one adapter that fits its target
    unknown: tuple[str, ...]  # "key: reason"
    words: Mapping[str, tuple[str, str]] = {}  # key -> word and component of an embedding that comes with the network


def match(header: Header, base: Base) -> Match:
    """The dialect that names the most tensors, what fits `base`, and why the rest does not.

    Raises NothingApplied if nothing fits, ShapeMismatch if the names do and the shapes do not.
    """
    candidates = [(dialect, _group(header, base, dialect)) for dialect in DIALECTS]
    dialect, grouped = max(candidates, key=lambda item: sum(map(len, item[1].values())))
    words, strange = bundled(header, base)
    used = {*words, *strange, *(key for keys in grouped.values() for key in keys)}
    unknown = [f"{key}: {reason}" for key, reason in strange.items()]
    unknown += [f"{key}: {base.title} has no module of this name" for key in header.entries if key not in used]
    fitting, shaped_else = {}, []
    for target, keys in grouped.items():
        reason = _misfit(header, base, target, keys)
        if reason is None and (reason := _other_shape(header, base, target, keys)):
            shaped_else.append(reason)
        if reason:
            unknown += [f"{key}: {reason}" for key in keys]
        else:
            fitting[target] = keys
    if not fitting and not words:
        if shaped_else:
            others = f" (and {len(shaped_else) - 1} more of its modules)" if len(shaped_else) > 1 else ""
            raise ShapeMismatch(f"{header.path.name}: {shaped_else[0]}{others}; nothing of it fits. Use it with the base it was made for")
        first = "; ".join(unknown[:2]) or "the file has no tensors"
        raise NothingApplied(f"{header.path.name}: none of its {len(header.entries)} tensors fits {base.title}: {first}")
    return Match(dialect, fitting, tuple(unknown), words)


@cache
def _book(dialect: Dialect, base: Base) -> Mapping[str, Target]:
    """Target by prefix, for all layers of `base`."""
    return {prefix: layer.target for layer in base.layers for prefix in dialect.spell(layer, base)}


def _group(header: Header, base: Base, dialect: Dialect) -> dict[Target, dict[str, str]]:
    """Keys by target. An unknown suffix stays in its group, so that no adapter is built from a part of its tensors."""
    book, suffixes = _book(dialect, base), dialect.known_suffixes()
    groups: defaultdict[Target, dict[str, str]] = defaultdict(dict)
    for key in header.entries:
        found = split(key, book)
        if found is not None:
            target, suffix = found
            groups[target][key] = suffixes.get(suffix, suffix)
    return groups


def _misfit(header: Header, base: Base, target: Target, keys: Mapping[str, str]) -> str | None:
    """Why these tensors are no adapter for a module like this target, or None."""
    layer = base.by_target[target]
    shapes = {suffix: header.entries[key].shape for key, suffix in keys.items()}
    if len(shapes) < len(keys):
        return f"{target} is named more than once"
    kind = adapter_type(shapes)
    if kind is None:
        return no_type(shapes)
    if reason := kind.refusal(layer.kind, shapes):
        return reason
    try:
        kind.check(shapes)
    except FileError as error:
        return str(error)
    free = kind.numbers() | kind.integers()
    whole = [suffix for key, suffix in keys.items() if suffix not in free and "F" not in header.entries[key].dtype]
    if whole:
        return f"{', '.join(whole)} of {target} should hold floating-point numbers"
    broken = [suffix for key, suffix in keys.items() if suffix in kind.integers() and "I" not in header.entries[key].dtype]
    if broken:
        return f"{', '.join(broken)} of {target} should hold whole numbers"
    return None


def _other_shape(header: Header, base: Base, target: Target, keys: Mapping[str, str]) -> str | None:
    """Both shapes, where an adapter is one for a module of another shape than this target's."""
    shapes = {suffix: header.entries[key].shape for key, suffix in keys.items()}
    kind = adapter_type(shapes)
    reason = kind and kind.misfit(shapes, base.by_target[target].shape)
    return f"{target} of {base.title}: {reason}" if reason else None
