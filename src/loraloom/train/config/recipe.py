"""What one adapter is to be, in words: `lora`, `lokr:factor=8`, `lora:32:alpha=16:dora`. A type and its options, in any order.

A number alone is the rank; a name alone switches its option on. The options are those of the type's own `init`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args

from loraloom.adapters import TYPES, Adapter, DoRA, Wrapper
from loraloom.errors import SettingsError, suggestion

Value = bool | int | float

_PLAIN = tuple(kind for kind in TYPES if not issubclass(kind, Wrapper))
TRAINED = tuple(kind.name for kind in _PLAIN)  # what a residue of single values (`Sparse`) is not: it comes from extraction
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_OF_EVERY_INIT = {"weight", "rank", "alpha", "generator", "options"}


@dataclass(frozen=True)
class Recipe:
    """A type, None where the job's counts, and what was said of it. The fields are None where nothing was said."""

    kind: type[Adapter] | None = None
    rank: int | None = None
    alpha: float | None = None
    lr_factor: float | None = None  # of the learning rate
    dora: bool | None = None
    options: Mapping[str, Value] = field(default_factory=dict)  # of the type's own


def read_recipe(text: str, otherwise: "Recipe | None" = None) -> Recipe:
    """`otherwise` is whose type the options are of where `text` begins with none. Raises SettingsError that names the nearest word."""
    words = [word.strip() for word in text.split(":")]
    first = words.pop(0) if words[0] and not _is_option(words[0]) else None
    named = None if first is None else _kind(first.removesuffix("+dora"))
    kind = named or (otherwise and otherwise.kind)
    given: dict[str, Value] = {"dora": True} if first is not None and first.endswith("+dora") else {}
    known = {"rank": int, "alpha": float, "lr_factor": float, "dora": bool, **(options_of(kind) if kind else {})}
    for word in filter(None, words):
        name, value = _option(word, known, kind.name if kind else "the job's type")
        if name in given:
            raise SettingsError(f"{text!r} says {name} twice")
        given[name] = value
    common: dict[str, Value] = {name: given.pop(name) for name in ("rank", "alpha", "lr_factor", "dora") if name in given}
    _check(text, common)
    made: Any = Recipe
    found: Recipe = made(named, **common, options=given)
    return found


def trained_type(recipe: Recipe) -> type[Adapter]:
    """The class, DoRA around it where that is wanted. Raises SettingsError where that would train nothing."""
    if recipe.kind is None:
        raise SettingsError("a recipe without a type trains nothing")
    if not recipe.dora:
        if alone := sorted(recipe.options.keys() & _keywords(DoRA.init).keys()):
            raise SettingsError(f"{recipe.kind.name}: {alone[0]} is an option of DoRA; add dora, or leave it out")
        return recipe.kind
    if recipe.kind.name in ("norm", "ia3"):
        reason = {"norm": "a norm's weight has no direction", "ia3": "ia3 scales what DoRA's magnitudes scale anew"}[recipe.kind.name]
        raise SettingsError(f"DoRA around {recipe.kind.name} is of no use: {reason}; leave dora out")
    return DoRA.around(recipe.kind)


@cache
def options_of(kind: type[Adapter]) -> Mapping[str, type]:
    """The options of a type's `init` and DoRA's, by name."""
    own = {**_keywords(kind.init), **_keywords(DoRA.init)}
    return {name: next(each for each in (get_args(hint) or (hint,)) if each is not type(None)) for name, hint in own.items()}


def _keywords(init: Callable[..., Adapter]) -> dict[str, Any]:
    found = inspect.signature(init).parameters.items()
    return {name: parameter.annotation for name, parameter in found if name not in _OF_EVERY_INIT}


def _is_option(word: str) -> bool:
    return "=" in word or word[0].isdigit()


def _kind(name: str) -> type[Adapter]:
    if (found := next((kind for kind in _PLAIN if kind.name == name.lower()), None)) is None:
        raise SettingsError(f"no adapter type {name!r}{suggestion(name, TRAINED) or '; known are ' + ', '.join(TRAINED)}")
    return found


def _option(word: str, known: Mapping[str, type], kind: str) -> tuple[str, Value]:
    name, equals, value = (part.strip() for part in word.partition("="))
    if not equals:
        name, value = ("rank", name) if name[0].isdigit() else (name, "true")
    if name not in known:
        hint = suggestion(name, known) or f"; it has {', '.join(known)}"
        raise SettingsError(f"{kind} has no option {name!r}{hint}")
    wanted = known[name]
    try:
        return name, _WORDS[value.lower()] if wanted is bool else wanted(value)
    except (KeyError, ValueError) as error:
        what = {bool: "true or false", int: "a whole number", float: "a number"}[wanted]
        raise SettingsError(f"{kind}: {name} = {value!r} is not {what}") from error


def _check(text: str, common: Mapping[str, Value]) -> None:
    for name in ("rank", "alpha", "lr_factor"):
        if name in common and not 0 < common[name] < float("inf"):
            raise SettingsError(f"{text!r}: {name} = {common[name]} is not greater than 0")
