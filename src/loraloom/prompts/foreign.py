"""Prompt syntax of the WebUI that loraloom does not run: `[a:b:0.5]`, `[a|b]`, `AND`, `BREAK`.
Found, so that it is never drawn as words."""

import re
from collections.abc import Iterator

from loraloom.errors import PromptError

_WORD = re.compile(r"\b(?:AND|BREAK)\b")
_MARK = re.compile(r"\\.|[()\[\]:|]", re.DOTALL)
_WHEN = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)\s*")


def find_foreign(text: str, source: str) -> list[PromptError]:
    """A PromptError for each use, in order; columns are those of `text`, which stands for `source` character by character."""
    uses = [
        *(
            (word.start(), word.end(), f"{word.group()} is not supported; write a plain prompt or draw the parts on their own")
            for word in _WORD.finditer(text)
        ),
        *_brackets(text),
    ]
    return [PromptError(message, prompt=source, column=start, length=stop - start) for start, stop, message in sorted(uses)]


def _brackets(text: str) -> Iterator[tuple[int, int, str]]:
    """Square brackets with a time or alternatives in them, wherever they are nested."""
    stack: list[tuple[str, int, list[int], bool]] = []  # bracket, column, colons directly in it, whether a | is
    for match in _MARK.finditer(text):
        mark, place = match.group(), match.start()
        if mark in "([":
            stack.append((mark, place, [], False))
        elif mark == ":" and stack:
            stack[-1][2].append(place)
        elif mark == "|" and stack:
            stack[-1] = (*stack[-1][:3], True)
        elif mark in ")]" and stack and stack[-1][0] == "(["[mark == "]"]:
            kind, start, colons, alternatives = stack.pop()
            if kind == "[" and alternatives:
                yield start, place + 1, "[a|b] is not supported; choose one of them"
            elif kind == "[" and colons and _WHEN.fullmatch(text, colons[-1] + 1, place):
                yield start, place + 1, "[a:b:0.5] is not supported; a LoRA can change by step, as in <lora:ink:0@1,1@6>"
