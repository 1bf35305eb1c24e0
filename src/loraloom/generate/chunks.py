"""A weighted prompt as CLIP reads it: chunks of as many tokens as fit between begin and end, each token with its weight.

The rules are those of the Stable Diffusion WebUI: each span of one weight is tokenized on its own; a full chunk is closed, and what
follows a comma near its end moves to the next one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from loraloom.prompts import weighted

_BACKTRACK = 20  # tokens: how near to the end of a chunk its last comma must be. The WebUI's default.


@dataclass(frozen=True)
class Chunk:
    """`ids` and `weights` [the encoder's positions]: begin, tokens, end, padding. Only tokens weigh other than 1."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    used: int  # positions up to and with the end

    @property
    def plain(self) -> bool:
        return all(weight == 1 for weight in self.weights)


def chunks(text: str, tokenizer: Any, spelled: Callable[[str], str] = str) -> list[Chunk]:
    """At least one chunk. `text` has emphasis marks and no tags; `spelled` writes words of several vectors out."""
    (comma, *others) = tokenizer(",", add_special_tokens=False).input_ids
    filling = _Filling(int(tokenizer.model_max_length) - 2, None if others else comma)
    for piece, weight in weighted(text):
        for group in _groups(tokenizer(spelled(piece), add_special_tokens=False, verbose=False).input_ids, tokenizer):
            filling.add(group, weight)
    return [_chunk(tokens, tokenizer) for tokens in filling.closed()]


class _Filling:
    """Tokens with their weights, put into chunks of `room` tokens."""

    def __init__(self, room: int, comma: int | None) -> None:
        self._room, self._comma = room, comma
        self._full: list[list[tuple[int, float]]] = []
        self._open: list[tuple[int, float]] = []
        self._last_comma: int | None = None  # its place in the open chunk

    def add(self, group: list[int], weight: float) -> None:
        """Tokens that stay together, if they are no more than a chunk holds."""
        if group == [self._comma]:
            self._last_comma = len(self._open)
        elif len(self._open) == self._room and self._last_comma is not None and self._room - self._last_comma <= _BACKTRACK:
            self._close(self._last_comma + 1)
        if len(self._open) + len(group) > self._room:
            self._close(len(self._open))
        self._open += [(token, weight) for token in group]
        while len(self._open) > self._room:
            self._close(self._room)

    def closed(self) -> list[list[tuple[int, float]]]:
        return [*self._full, self._open] if self._open or not self._full else self._full

    def _close(self, place: int) -> None:
        """End the open chunk before `place`; what stands from there on begins the next."""
        if place:
            self._full.append(self._open[:place])
        self._open, self._last_comma = self._open[place:], None


def _groups(ids: list[int], tokenizer: Any) -> Iterator[list[int]]:
    """Each token on its own; those of one word of several vectors (`w w_1 w_2`, as diffusers spells it) together."""
    names = {number: name for name, number in tokenizer.added_tokens_encoder.items()}
    group: list[int] = []
    for number in ids:
        if group and names.get(group[0]) is not None and names.get(number) == f"{names[group[0]]}_{len(group)}":
            group.append(number)
            continue
        if group:
            yield group
        group = [number]
    if group:
        yield group


def _chunk(tokens: list[tuple[int, float]], tokenizer: Any) -> Chunk:
    used, length = len(tokens) + 2, int(tokenizer.model_max_length)
    ids = [tokenizer.bos_token_id, *(token for token, _ in tokens), tokenizer.eos_token_id]
    weights = [1.0, *(weight for _, weight in tokens), 1.0]
    return Chunk((*ids, *[tokenizer.pad_token_id] * (length - used)), (*weights, *[1.0] * (length - used)), used)
