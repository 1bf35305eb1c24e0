"""A text without its tags, and without what only stood there because of them: spaces, commas, brackets that are empty now."""

import re
from collections.abc import Sequence

_SEPARATORS = re.compile(r"[\s,]*")
_CLOSING = {"(": re.compile(r"(?::\s*[+-]?[0-9.]+\s*)?\)"), "[": re.compile(r"\]")}
_PUNCTUATION = (".", ";", ":", "!", "?")


def masked(source: str, spans: Sequence[tuple[int, int]]) -> str:
    """The source with spaces for these spans; every other character keeps its column."""
    pieces, place = [], 0
    for start, stop in spans:
        pieces += [source[place:start], " " * (stop - start)]
        place = stop
    return "".join([*pieces, source[place:]])


def without(source: str, spans: Sequence[tuple[int, int]]) -> str:
    """The source without these spans. What is not beside one of them is untouched; one separator stays between two neighbours."""
    pieces: list[str] = []
    place = 0
    ahead = 0
    while ahead < len(spans):
        start, stop = spans[ahead]
        ahead += 1
        separators: list[str] = []
        while True:
            trimmed = _trimmed(source, place, start)
            after = _SEPARATORS.match(source, stop)
            right = after.group() if after else ""
            separators += [source[trimmed:start], right]
            start, stop = trimmed, stop + len(right)
            closing = _CLOSING[source[start - 1]].match(source, stop) if start > place and _opens(source, start - 1) else None
            if ahead < len(spans) and spans[ahead][0] == stop:
                stop = spans[ahead][1]
                ahead += 1
            elif closing:
                start, stop = start - 1, closing.end()
            else:
                break
        pieces += [source[place:start], _between(source, start, stop, "".join(separators), right)]
        place = stop
    return "".join([*pieces, source[place:]])


def _trimmed(source: str, place: int, start: int) -> int:
    """Where the separators before `start` begin, not before `place`."""
    while start > place and (source[start - 1].isspace() or source[start - 1] == ","):
        start -= 1
    return start


def _opens(source: str, place: int) -> bool:
    return source[place] in _CLOSING and (place == 0 or source[place - 1] != "\\")


def _between(source: str, start: int, stop: int, separators: str, right: str) -> str:
    """What stays between the text before `start` and the text from `stop` on."""
    at_start = start == 0 or _opens(source, start - 1)
    at_end = stop == len(source) or any(closing.match(source, stop) for closing in _CLOSING.values())
    if at_start or at_end or (not right and source.startswith(_PUNCTUATION, stop)):
        return ""
    space = "\n" if "\n" in separators else " " if separators.strip(",") else ""
    if "," in separators:
        return "," + space
    return space or (" " if source[start - 1].isalnum() and source[stop].isalnum() else "")
