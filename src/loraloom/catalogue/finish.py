"""A prompt as it is drawn: what this computer knows about its networks is written into it.

The recipe of a picture holds this text, as the WebUI's does. Read back, it draws the same picture on a computer that has other
settings and no notes beside its files: trigger words stand in it and are not given twice, and a number beats every default. Only a
setting that asks for more words than this one did gives more.
"""

from typing import NamedTuple

from loraloom.catalogue.catalogue import Catalogue
from loraloom.catalogue.facts import Facts
from loraloom.errors import NotFound
from loraloom.prompts import Prompt, choose, give_triggers, parse_lenient, with_strengths

_PLAIN = 1.0  # what a tag without a number means to everybody


class Finished(NamedTuple):
    prompt: Prompt
    notes: tuple[str, ...] = ()


def own_strength(facts: Facts, default: float) -> float:
    """What a tag without a number means for this network: its preferred strength, else `default`."""
    return default if facts.strength is None else facts.strength


def finish(prompt: Prompt, library: Catalogue, *, default: float, triggers: int, paths: bool = True) -> Finished:
    """Tags without a number get their network's preferred strength, else `default`; the text gets the words of its networks that
    are not at 0, in the order of the tags, as many of each as the setting `triggers` says.

    A tag whose name leads to nothing stays as it is; whoever loads the networks says so.
    """
    strengths: dict[int, float] = {}
    words: list[str] = []
    for tag in prompt.loras:
        try:
            item = library.find(tag.name, paths=paths)
        except NotFound:
            continue
        facts = library.facts(item, complete=False)
        own = own_strength(facts, default)
        if tag.first is None and (own != _PLAIN or default != _PLAIN):
            strengths[tag.column] = own
        if not tag.strength(own).is_zero:
            words += choose(facts.sure, triggers)
    given = give_triggers(with_strengths(prompt, strengths), words)
    if given.text == prompt.source:
        return Finished(prompt)
    notes = [f"trigger words added to the prompt: {', '.join(given.words)}"] if given.words else []
    notes += [f"trigger word left out, as no prompt can say it: {word[:100]}" for word in given.left_out]
    return Finished(parse_lenient(given.text)[0], tuple(notes))
