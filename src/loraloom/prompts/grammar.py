"""From the text of a prompt to its tags. Every mistake is collected with its place; what is right in a tag stays usable."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loraloom.errors import PromptError, suggestion
from loraloom.prompts.nearly import INVISIBLE, OPENING
from loraloom.prompts.tag import QUOTED_NAME, SCHEDULE_KEYS, UNQUOTED_NAME, LoraTag, unquoted
from loraloom.prompts.values import Piece, is_lbw, read_dyn, read_lbw, read_module, read_place, read_schedule, read_span
from loraloom.schedule import Schedule, never_on
from loraloom.strength import Strength

_REST = re.compile(r"[^<>]*>")

_READERS: dict[str, Callable[[Piece], object]] = {
    **dict.fromkeys(SCHEDULE_KEYS, read_schedule),
    "lbw": read_lbw,
    "dyn": read_dyn,
    "module": read_module,
    "start": read_place,
    "stop": read_place,
    "step": read_span,
}
_ALIASES = {"transformer": "unet", "dit": "unet", "w": "lbw"}
KEYS = (*_READERS, *_ALIASES)
_SECOND_PASS = "the second pass of a high-resolution drawing; there is one pass here"
# Keys of other tools that mean something which is not run.
_REFUSED = {
    "lbwe": "weights of single layers (lbwe) are not supported; use lbw, in, mid and out",
    "x": "relative block weights (x) are not supported; write the numbers into lbw",
    **{key: f"{key} is for {_SECOND_PASS}" for key in ("hr", "hrte", "hrunet")},
}


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of the prompt that is a tag: it leaves the text. `tag` is None where it has no usable name."""

    start: int
    stop: int
    tag: LoraTag | None


def read_tags(source: str) -> tuple[tuple[Found, ...], tuple[PromptError, ...]]:
    """All tags of a prompt in order, and all mistakes in order. A tag that is not closed is a mistake and stays in the text."""
    found: list[Found] = []
    mistakes: list[PromptError] = []
    place = 0
    while opening := OPENING.search(source, place):
        tag = _read_tag(source, opening, mistakes)
        place = opening.end() if tag is None else tag.stop
        found += [] if tag is None else [tag]
    return tuple(found), tuple(sorted(mistakes, key=lambda mistake: mistake.column))


def _read_tag(source: str, opening: re.Match[str], mistakes: list[PromptError]) -> Found | None:
    start, place = opening.start(), opening.end()
    quoted = QUOTED_NAME.match(source, place) if source[place : place + 1] == '"' else None
    if source[place : place + 1] == '"' and quoted is None:
        mistakes.append(PromptError("the name's quote is not closed; add a \"", prompt=source, column=place))
        return None
    rest = _REST.match(source, quoted.end() if quoted else place)
    if rest is None:
        mistakes.append(PromptError("this tag is not closed; add a >", prompt=source, column=start, length=opening.end() - start))
        return None
    if quoted:
        name, after = unquoted(quoted.group()), quoted.end()
    else:
        spelled = UNQUOTED_NAME.match(source, place, rest.end() - 1)
        name, after = (INVISIBLE.sub("", spelled.group()).strip(), spelled.end()) if spelled else ("", place)
    mistakes += _invisible(source, quoted.end() if quoted else place, rest.end())
    items = Piece(source, after, rest.end() - 1).split(":")
    first, keys = _read_items(items[1:], mistakes)
    if items[0].text:
        mistakes.append(items[0].error("after the closing quote of a name comes : or >"))
    elif not name:
        mistakes.append(PromptError("a tag needs a name, as in <lora:ink:0.8>", prompt=source, column=place))
    else:
        return Found(start, rest.end(), LoraTag(name, first, keys, column=start, length=rest.end() - start))
    return Found(start, rest.end(), None)


def _invisible(source: str, start: int, stop: int) -> list[PromptError]:
    """A mistake for the first character that nobody sees; in quotes they may be part of a name."""
    hidden = INVISIBLE.search(source, start, stop)
    if hidden is None:
        return []
    message = f"this tag has an invisible character (U+{ord(hidden.group()):04X}); delete it"
    return [PromptError(message, prompt=source, column=hidden.start())]


def _read_items(items: list[Piece], mistakes: list[PromptError]) -> tuple[Schedule | None, Strength]:
    """The first number if there is one, and all the rest; what is mistaken is left out."""
    values: dict[str, Any] = {}
    seen: dict[str, Piece] = {}
    order = iter(("first", "second", "dyn"))
    for item in items:
        try:
            key, place, value = _key_and_value(item) if "=" in item.text else ("lbw" if is_lbw(item) else next(order, ""), item, item)
            if not key:
                raise item.error("too many numbers; a tag takes text encoder, denoiser and dyn, and the rest as key=value")
            names = ("start", "stop") if key == "step" else (key,)
            if twice := next((name for name in names if name in seen), None):
                raise place.error(f"{twice} is given twice; leave one out")
            seen |= dict.fromkeys(names, value)
            found = read_span(value) if key == "step" else (_READERS.get(key, _read_positional)(value),)
            values |= zip(names, found, strict=True)
        except PromptError as mistake:
            mistakes.append(mistake)
    if never_on(values.get("start"), values.get("stop")):
        mistakes.append(seen["stop"].error("stop comes before start; this network would never be on"))
        del values["stop"]
    first, second = values.pop("first", None), values.pop("second", None)
    if second is not None:
        values.setdefault("unet", second)  # a key replaces the number that stands for it
    return first, Strength(**{SCHEDULE_KEYS.get(key, key): value for key, value in values.items()})


def _key_and_value(item: Piece) -> tuple[str, Piece, Piece]:
    middle = item.source.index("=", item.start)
    name, value = item.cut(item.start, middle), item.cut(middle + 1, item.stop)
    key = _ALIASES.get(name.text, name.text)
    if not name.text:
        raise item.error("a key is missing before the =")
    if key in _REFUSED:
        raise name.error(_REFUSED[key])
    if key not in _READERS:
        hint = suggestion(name.text, KEYS) or "; there are " + ", ".join(KEYS)
        raise name.error(f'unknown key "{name.text}"{hint}')
    if not value.text:
        raise item.error(f"{name.text} has no value; write one after the =")
    return key, name, value


def _read_positional(item: Piece) -> Schedule:
    if item.text in KEYS:
        raise item.error(f"{item.text} has no value; write {item.text}=... or leave it out")
    return read_schedule(item)
