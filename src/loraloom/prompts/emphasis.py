"""Emphasis as in the Stable Diffusion WebUI: `(word)` is 1.1, `[word]` is 1/1.1, `(word:1.3)` is 1.3, and they multiply."""

import math
import re

_TOKEN = re.compile(
    r"""\\[()\[\]\\]                                                # an escaped bracket or backslash: itself
      | \\                                                          # any other backslash is dropped, as the WebUI does
      | :\s*(?P<weight>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*\)      # a closing bracket with a weight
      | [()\[\]:]
      | [^\\()\[\]:]+""",
    re.VERBOSE,
)
_MAX_WEIGHT = 1e6  # thousands of brackets in a prompt from a stranger stay finite


def weighted(text: str) -> tuple[tuple[str, float], ...]:
    """The text in spans with their weights, in order; neighbours differ in weight. Brackets that are not closed reach the end,
    and closing ones without a partner are text. Joined, the spans are the text without its marks; `("", 1.0)` for no text at all."""
    tokens = list(_TOKEN.finditer(text))
    factors = _bracket_factors(tokens)
    # Round and square brackets may overlap; within its kind each pair is nested, so two stacks of products are enough.
    products = {"(": [1.0], "[": [1.0]}
    spans: list[tuple[str, float]] = []
    for place, token in enumerate(tokens):
        if place in factors:
            kind, factor = factors[place]
            if factor is None:
                products[kind].pop()
            else:
                products[kind].append(max(-_MAX_WEIGHT, min(_MAX_WEIGHT, products[kind][-1] * factor)))
            continue
        piece = token.group()
        piece = piece[1:] if piece.startswith("\\") else piece
        weight = products["("][-1] * products["["][-1]
        if spans and spans[-1][1] == weight:
            spans[-1] = (spans[-1][0] + piece, weight)
        elif piece:
            spans.append((piece, weight))
    return tuple(spans) or (("", 1.0),)


def unmarked(text: str) -> str:
    """The text as an encoder reads it that weighs no words: emphasis marks are not words."""
    return "".join(piece for piece, _ in weighted(text))


def _bracket_factors(tokens: list[re.Match[str]]) -> dict[int, tuple[str, float | None]]:
    """Index of a bracket token -> its kind, and the factor that it opens or None where it closes. Brackets that are text are absent."""
    open_at: dict[str, list[int]] = {"(": [], "[": []}
    found: dict[int, tuple[str, float | None]] = {}
    for place, token in enumerate(tokens):
        mark = token.group()
        if mark in open_at:
            open_at[mark].append(place)
            found[place] = (mark, 1.1 if mark == "(" else 1 / 1.1)
            continue
        kind = "[" if mark == "]" else "(" if mark == ")" or token["weight"] else ""
        if kind and open_at[kind]:
            opened = open_at[kind].pop()
            if token["weight"] and math.isfinite(weight := float(token["weight"])):
                found[opened] = (kind, weight)
            found[place] = (kind, None)
    return found
