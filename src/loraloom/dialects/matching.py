"""Header -> which tensors are whose: every key becomes part of a target's adapter or gets a reason. No torch."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from loraloom.adapters import Adapter, Shape, no_type
from loraloom.bases import Base, Target
from loraloom.dialects import peftconfig
from loraloom.dialects.aitoolkit import AiToolkit
from loraloom.dialects.base import Dialect, book
from loraloom.dialects.bundled import bundled
from loraloom.dialects.cloneofsimo import Cloneofsimo
from loraloom.dialects.comfyui import ComfyUI
from loraloom.dialects.kohya import Kohya
from loraloom.dialects.lycoris import Lycoris
from loraloom.dialects.naming import Names
from loraloom.dialects.naming import repeated as once
from loraloom.dialects.old_diffusers import OldDiffusers
from loraloom.dialects.onetrainer import OneTrainer
from loraloom.dialects.peft import Peft
from loraloom.dialects.peft_folder import PeftFolder
from loraloom.errors import FileError, NothingApplied, ShapeMismatch, UnknownFormat, suggestion
from loraloom.plugins import registered
from loraloom.tensorfile import Header

# With equal counts of tensors the first one names them.
DIALECTS: tuple[Dialect, ...] = (
    Kohya(),
    Peft(),
    PeftFolder(),
    OldDiffusers(),
    Lycoris(),
    OneTrainer(),
    ComfyUI(),
    AiToolkit(),
    Cloneofsimo(),
)
GROUP = "loraloom.dialects"  # entry points of other packages' dialects


def by_name(name: str) -> Dialect:
    """The dialect of this name; raises UnknownFormat, naming the nearest."""
    known = {dialect.name: dialect for dialect in DIALECTS}
    if name not in known:
        known |= {dialect.name: dialect for dialect in registered(GROUP, Dialect)}
    if name not in known:
        hint = suggestion(name, known) or f"; known are {', '.join(known)}"
        raise UnknownFormat(f"no dialect named {name!r}{hint}")
    return known[name]


class Match(NamedTuple):
    """Every key of a file is in `groups`, `words` or `unknown`."""

    dialect: Dialect  # the one that names the most tensors
    groups: Mapping[Target, Mapping[str, str]]  # key -> our suffix; each group is one adapter that fits its target
    unknown: tuple[str, ...]  # "key: reason"
    words: Mapping[str, tuple[str, str]] = {}  # key -> word and component of an embedding that comes with the network
    kinds: Mapping[Target, type[Adapter]] = {}  # the type of each
    named_by: Mapping[Target, Dialect] = {}  # the dialect of each: a file may mix them
    repeated: Mapping[str, str] = {}  # key -> the key in a group that names the same tensor first
    names: Names = Names()

    def spelled(self, target: Target) -> Mapping[str, str]:
        """The file's name for each suffix, without what was put into it."""
        return {suffix: self.names.of_key(key) for key, suffix in self.groups[target].items()}


def match(header: Header, base: Base, component: str | None = None) -> Match:
    """The dialects that name the file's tensors, what fits `base` (or one component of it), and why the rest does not.

    Raises NothingApplied if nothing fits, ShapeMismatch if the names do and the shapes do not.
    """
    words, reasons = bundled(header, base)
    bundle = words.keys() | reasons.keys()
    named = [key for key in header.entries if key not in bundle] if bundle else header.entries.keys()
    names = Names.of(named)
    claims, unnamed = _claims(named, names, base, component)
    names.refuse_several(header.path.name, {key: target for _, claim in claims for key, (target, _) in claim.items()})
    reasons = {**reasons, **unnamed}
    groups: dict[Target, dict[str, str]] = {}
    named_by: dict[Target, Dialect] = {}
    for dialect, claimed in claims:
        for key, (target, suffix) in claimed.items():
            first = named_by.setdefault(target, dialect)
            if first is dialect:
                groups.setdefault(target, {})[key] = suffix
            else:
                reasons[key] = f"{target} is named more than once: the file has it in {first.title} naming too"
    unknown = [f"{key}: {reason}" for key, reason in reasons.items()]
    fitting: dict[Target, Mapping[str, str]] = {}
    kinds: dict[Target, type[Adapter]] = {}
    shaped_else: list[str] = []
    repeated: dict[str, str] = {}
    for target, named_keys in groups.items():
        dialect = named_by[target]
        is_once = len({*named_keys.values()}) == len(named_keys)  # spelling a module takes as long as looking it up
        prefixes = () if is_once else dialect.spell(base.by_target[target], base)
        keys, copies, rest = once(named_keys, names, prefixes, dialect.separator)
        unknown += (f"{key}: {target} is named more than once" for key in rest)
        spelled = {suffix: names.of_key(key) for key, suffix in keys.items()}
        found = _fit(header, base, dialect, target, keys, spelled)
        if isinstance(found, type):
            fitting[target], kinds[target] = keys, found
            repeated |= copies
            continue
        shaped_else += [found.reason] if found.of_shape else []
        unknown += [f"{key}: {found.reason}" for key in (*keys, *copies)]
    if not fitting and not words:
        if reason := next(filter(None, (peftconfig.refusal(header.metadata, name) for name in base.components)), ""):
            raise UnknownFormat(f"{header.path.name}: {reason}")
        if shaped_else:
            others = f" (and {len(shaped_else) - 1} more of its modules)" if len(shaped_else) > 1 else ""
            raise ShapeMismatch(f"{header.path.name}: {shaped_else[0]}{others}; nothing of it fits. Use it with the base it was made for")
        shown = "; ".join(unknown[:2]) or "the file has no tensors"
        raise NothingApplied(f"{header.path.name}: none of its {len(header.entries)} tensors fits {base.title}: {shown}")
    return Match(claims[0][0] if claims else DIALECTS[0], fitting, tuple(unknown), words, kinds, named_by, repeated, names)


Claim = dict[str, tuple[Target, str]]  # key -> (target, our suffix)


def _claims(keys: Collection[str], names: Names, base: Base, component: str | None) -> tuple[list[tuple[Dialect, Claim]], dict[str, str]]:
    """Which of the keys each dialect names, the one with the most first and each key once; and the reasons of the keys that none does.
    `names` learns the prefix that hides a module from all of them."""
    claims, reasons = _named(keys, names, base, component)
    books = [book(dialect, base, component) for dialect in DIALECTS]
    if reasons and names.without_prefix(reasons.keys(), lambda name: any(each.find(name) is not None for each in books)):
        return _named(keys, names, base, component)
    return claims, reasons


def _named(keys: Collection[str], names: Names, base: Base, component: str | None) -> tuple[list[tuple[Dialect, Claim]], dict[str, str]]:
    """`_claims` with the names as they are."""
    all_claims: list[tuple[Dialect, Claim]] = []
    refused: dict[str, str] = {}
    for dialect in _all(keys, all_claims):
        find = book(dialect, base, component).find
        claim = {key: found for key in keys if (found := find(names.of_key(key))) is not None}
        if claim and (reason := dialect.refuse({target for target, _ in claim.values()}, base)):
            refused |= dict.fromkeys(claim, reason)
        elif claim:
            all_claims.append((dialect, claim))
            if len(claim) == len(keys):
                return [(dialect, claim)], {}
    chosen: list[tuple[Dialect, Claim]] = []
    while all_claims:
        best = max(all_claims, key=lambda item: len(item[1]))
        chosen.append(best)
        rest = ((dialect, {key: found for key, found in claim.items() if key not in best[1]}) for dialect, claim in all_claims)
        all_claims = [(dialect, claim) for dialect, claim in rest if claim]
    named = {key for _, claim in chosen for key in claim}
    return chosen, {key: refused.get(key) or _reason(key, base) for key in keys if key not in named}


def _all(keys: Collection[str], claims: "list[tuple[Dialect, Claim]]") -> Iterable[Dialect]:
    """Ours, then, if keys are left that none of ours names, other packages'."""
    yield from DIALECTS
    if len({key for _, claim in claims for key in claim}) < len(keys):
        yield from registered(GROUP, Dialect)


def _reason(key: str, base: Base) -> str:
    return next((reason for dialect in DIALECTS if (reason := dialect.reason(key))), f"{base.title} has no module of this name")


class _Misfit(NamedTuple):
    reason: str
    of_shape: bool = False  # an adapter, but for a module of another shape


def _fit(
    header: Header, base: Base, dialect: Dialect, target: Target, keys: Mapping[str, str], spelled: Mapping[str, str]
) -> type[Adapter] | _Misfit:
    """The type of the adapter that these tensors are for this target, or why they are none."""
    layer = base.by_target[target]
    found: Mapping[str, Shape] = {suffix: header.entries[key].shape for key, suffix in keys.items()}
    if len(found) < len(keys):
        return _Misfit(f"{target} is named more than once")
    try:
        shapes = dialect.shapes(found, spelled, layer)
        kind = dialect.kind(found, shapes, layer, header.metadata)
        if kind is None:
            return _Misfit(no_type(found))
        if reason := kind.refusal(layer.kind, shapes):
            return _Misfit(reason)
        kind.check(shapes)
    except FileError as error:
        return _Misfit(str(error))
    if reason := _wrong_numbers(kind, {suffix: header.entries[key].dtype for key, suffix in keys.items()}):
        return _Misfit(f"{target}: {reason}")
    reason = kind.misfit(shapes, layer.shape)
    return _Misfit(f"{target} of {base.title}: {reason}", of_shape=True) if reason else kind


def _wrong_numbers(kind: type[Adapter], dtypes: Mapping[str, str]) -> str | None:
    """Which tensors hold whole numbers in place of others, or the reverse; alpha and its like may be either."""
    whole = [suffix for suffix, dtype in dtypes.items() if suffix not in kind.numbers() | kind.integers() and "F" not in dtype]
    if whole:
        return f"{', '.join(whole)} should hold floating-point numbers"
    broken = [suffix for suffix, dtype in dtypes.items() if suffix in kind.integers() and "I" not in dtype]
    return f"{', '.join(broken)} should hold whole numbers" if broken else None
