"""Trigger words that a prompt is given unasked: where it says `_tags_`, else at its end.

The text that comes out is the whole prompt, with its tags: it reads back as the same words wherever it is read, under any setting.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from loraloom.prompts.grammar import read_tags
from loraloom.prompts.prompt import MAX_LENGTH, parse_lenient
from loraloom.prompts.removal import masked, without

_MARK = re.compile(r"(?<!\w)_tags_(?!\w)")
_BRACKETS = re.compile(r"[()\[\]]")


class Given(NamedTuple):
    """`words` are those that were added, as they stand in the text; `left_out` those that no prompt can say."""

    text: str
    words: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def choose(words: Sequence[str], count: int) -> tuple[str, ...]:
    """What the setting `auto_apply_triggers` asks for: the first `count`, all for -1."""
    return tuple(words if count < 0 else words[:count])


def give_triggers(source: str, words: Iterable[str]) -> Given:
    """The prompt with those of `words` that it does not say yet, in order, at its first `_tags_` or else at its end; no `_tags_`
    stays. A prompt says a word if it stands there whole, in any case; words that are given are said too. Giving the same words
    again changes nothing.
    """
    spans = [(found.start, found.stop) for found in read_tags(source)[0]]
    said = masked(source, spans)
    marks = [match.span() for match in _MARK.finditer(said)]
    added: list[str] = []
    left_out: list[str] = []
    room = MAX_LENGTH - len(source)
    for word in words:
        spelled = _sayable(word)
        if spelled is None or len(spelled) + 2 > room:
            left_out.append(word)
        elif not any(_says(text, phrase) for text in (said, *added) for phrase in (word, spelled)):
            added.append(spelled)
            room -= len(spelled) + 2
    given = ", ".join(added)
    if added and marks:
        start, stop = marks[0]
        text = without(source[:start] + given + source[stop:], [_moved(mark, len(given) - (stop - start)) for mark in marks[1:]])
    else:
        text = without(source, marks)
        text = f"{text}{_between(text)}{given}" if added else text
    return Given(text, tuple(added), tuple(left_out))


def _says(text: str, phrase: str) -> bool:
    words = phrase.split()
    pattern = r"\s+".join(map(re.escape, words))
    return bool(words) and re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None


def _sayable(word: str) -> str | None:
    """The word as a prompt says it: brackets without partners are escaped, so that they weigh nothing else. None for what is no
    word in a prompt: a tag, `BREAK`, `[a:b:0.5]`."""
    word = " ".join(word.split())
    if not _balanced(word):
        word = _BRACKETS.sub(lambda bracket: f"\\{bracket.group()}", word)
    prompt, mistakes = parse_lenient(word)
    plain = word and not mistakes and not prompt.loras and prompt.text == word and not re.search(r"[<>]|_tags_", word)
    return word if plain else None


def _balanced(word: str) -> bool:
    open_at: list[str] = []
    for bracket in _BRACKETS.findall(re.sub(r"\\.", "", word)):
        if bracket in "([":
            open_at.append(bracket)
        elif not open_at or open_at.pop() != {")": "(", "]": "["}[bracket]:
            return False
    return not open_at


def _moved(span: tuple[int, int], by: int) -> tuple[int, int]:
    return span[0] + by, span[1] + by


def _between(text: str) -> str:
    stripped = text.rstrip()
    if not stripped:
        return ""
    return ("" if text != stripped else " ") if stripped.endswith(",") else ", "
