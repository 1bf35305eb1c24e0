"""A prompt: the text that the encoder sees, and the tags that left it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from loraloom.errors import PromptError
from loraloom.prompts.emphasis import weighted
from loraloom.prompts.foreign import find_foreign
from loraloom.prompts.grammar import read_tags
from loraloom.prompts.nearly import find_nearly
from loraloom.prompts.removal import masked, without
from loraloom.prompts.tag import LoraTag
from loraloom.schedule import Schedule

MAX_LENGTH = 100_000  # characters


@dataclass(frozen=True)
class Prompt:
    """What `parse` read. `text` has no tags and no commas or spaces that only stood beside one; everything else is as it was."""

    text: str
    loras: tuple[LoraTag, ...]
    source: str

    @property
    def emphasis(self) -> tuple[tuple[str, float], ...]:
        """The text in weighted spans, without the marks `(word:1.2)` and `[word]`. See `weighted`."""
        return weighted(self.text)

    def __str__(self) -> str:
        """The text with all tags at its end, in order; it reads back as equal tags and an equal text, save commas and spaces at its end."""
        return compose(self.text, self.loras)


def parse(text: str) -> Prompt:
    """Read a prompt. Raises PromptError for the first mistake, with its column."""
    if len(text) > MAX_LENGTH:
        raise _too_long(text)
    prompt, mistakes = parse_lenient(text)
    if mistakes:
        raise mistakes[0]
    return prompt


def parse_lenient(text: str) -> tuple[Prompt, tuple[PromptError, ...]]:
    """Read a prompt and go on past mistakes: they come back in order of their columns, and never as an exception.
    A mistaken value is left out of its tag; a tag without a usable name and what is nearly a tag leave the text, what is not closed
    stays in it; what is beyond MAX_LENGTH characters is cut off.
    """
    source = text[:MAX_LENGTH]
    found, mistakes = read_tags(source)
    spans = [(each.start, each.stop) for each in found]
    nearly = find_nearly(masked(source, spans), source)
    spans = sorted([*spans, *((each.start, each.stop) for each in nearly if each.closed)])
    mistakes = (*mistakes, *(each.mistake for each in nearly), *find_foreign(masked(source, spans), source))
    if len(text) > MAX_LENGTH:
        mistakes = (*mistakes, _too_long(text))
    prompt = Prompt(without(source, spans), tuple(each.tag for each in found if each.tag), source)
    return prompt, tuple(sorted(mistakes, key=lambda mistake: mistake.column))


def compose(text: str, loras: Iterable[LoraTag]) -> str:
    """One prompt of a text and tags, the tags at its end."""
    return " ".join([part for part in (text, *map(str, loras)) if part])


def with_strengths(prompt: Prompt, strengths: Mapping[int, float]) -> str:
    """The source in which the tags at these columns have this first number; everything else is as it was written."""
    pieces, place = [], 0
    for tag in prompt.loras:
        if tag.column in strengths:
            pieces += [prompt.source[place : tag.column], str(replace(tag, first=Schedule.of(strengths[tag.column])))]
            place = tag.column + tag.length
    return "".join([*pieces, prompt.source[place:]])


def _too_long(text: str) -> PromptError:
    return PromptError(f"the prompt has {len(text)} characters; at most {MAX_LENGTH} are read", prompt=text, column=MAX_LENGTH)
