"""What a scan found, with look-ups by id and name. It never changes; what is learned about its files is added to it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from loraloom.catalogue.facts import Facts
from loraloom.catalogue.scan import Item


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The items of one scan. `facts` grows, one whole entry at a time, so other threads may read it meanwhile."""

    items: tuple[Item, ...] = ()
    facts: dict[Item, Facts] = field(default_factory=dict)
    texts: dict[Item, tuple[Facts, str]] = field(default_factory=dict)  # what a search looks into, with the facts it was made from

    @cached_property
    def by_id(self) -> Mapping[str, Item]:
        return {item.id: item for item in self.items}

    @cached_property
    def by_name(self) -> Mapping[str, tuple[Item, ...]]:
        """By every spelling that the files' places give."""
        found: defaultdict[str, list[Item]] = defaultdict(list)
        for item in self.items:
            for name in dict.fromkeys(item.names):
                found[name].append(item)
        return {name: tuple(items) for name, items in found.items()}

    def knows(self, item: Item, *, complete: bool) -> bool:
        facts = self.facts.get(item)
        return facts is not None and (facts.complete or not complete)

    def followed_by(self, items: tuple[Item, ...]) -> "Snapshot":
        """The snapshot after this one. What is known about files that did not change stays known, save that one could not be read."""
        same = {item: item for item in self.items}
        kept = tuple(same.get(item, item) for item in items)  # the same object has its names already
        facts = {item: found for item in kept if (found := self.facts.get(item)) is not None and found.read}
        return Snapshot(kept, facts, {item: self.texts[item] for item in facts if item in self.texts})

    def text(self, item: Item, facts: Facts) -> str:
        """All that a search looks into, in lower case."""
        made_from, text = self.texts.get(item, (None, ""))
        if made_from is not facts:
            parts = (item.below, facts.family, facts.title, *facts.types, *facts.aliases, *facts.triggers, *facts.tags)
            text = "\n".join(parts).lower()
            self.texts[item] = facts, text
        return text
