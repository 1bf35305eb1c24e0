"""What a scan found, with look-ups by id and name. It never changes; what is learned about its files is added to it."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from loraloom.catalogue.facts import Facts
from loraloom.catalogue.scan import Item, LeftOut, Survey
from loraloom.prompts.nearly import INVISIBLE


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The items of one scan. `facts` grows, one whole entry at a time, so other threads may read it meanwhile."""

    items: tuple[Item, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    facts: dict[Item, Facts] = field(default_factory=dict)
    texts: dict[Item, tuple[Facts, str]] = field(default_factory=dict)  # what a search looks into, with the facts it was made from

    @cached_property
    def by_id(self) -> Mapping[str, Item]:
        return {item.id: item for item in self.items}

    @cached_property
    def by_name(self) -> Mapping[str, tuple[Item, ...]]:
        """By every spelling that the files' places give."""
        return _grouped((name, item) for item in self.items for name in item.names)

    @cached_property
    def by_letters(self) -> Mapping[str, tuple[Item, ...]]:
        """The same, by what `loose` makes of each spelling."""
        return _grouped((loose(name), item) for name, items in self.by_name.items() for item in items)

    def knows(self, item: Item, *, complete: bool) -> bool:
        facts = self.facts.get(item)
        return facts is not None and (facts.complete or not complete)

    def followed_by(self, found: Survey) -> "Snapshot":
        """The snapshot after this one. What is known about files that did not change stays known, save that one could not be read."""
        same = {item: item for item in self.items}
        kept = tuple(same.get(item, item) for item in found.items)  # the same object has its names already
        facts = {item: known for item in kept if (known := self.facts.get(item)) is not None and known.read}
        return Snapshot(kept, found.left_out, facts, {item: self.texts[item] for item in facts if item in self.texts})

    def text(self, item: Item, facts: Facts) -> str:
        """All that a search looks into, in lower case."""
        made_from, text = self.texts.get(item, (None, ""))
        if made_from is not facts:
            linked = (place.below for place in item.also)
            parts = (
                item.below,
                *linked,
                facts.base_told,
                facts.family,
                facts.title,
                *facts.types,
                *facts.aliases,
                *facts.triggers,
                *facts.tags,
            )
            text = "\n".join(parts).lower()
            self.texts[item] = facts, text
        return text


def loose(name: str) -> str:
    """What two spellings of a name have in common that differ in case, in Unicode form, in slashes, in spaces at their ends or in
    characters that nobody sees."""
    parts = unicodedata.normalize("NFKC", INVISIBLE.sub("", name)).casefold().replace("\\", "/").split("/")
    return unicodedata.normalize("NFKC", "/".join(part.strip() for part in parts))


def _grouped(pairs: Iterable[tuple[str, Item]]) -> Mapping[str, tuple[Item, ...]]:
    """Each name's files, each once."""
    found: defaultdict[str, dict[Item, None]] = defaultdict(dict)
    for name, item in pairs:
        found[name][item] = None
    return {name: tuple(items) for name, items in found.items()}
