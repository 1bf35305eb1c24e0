"""The names of a file's tensors as they are looked up: without what was put into them, and one of each where modules are named twice."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from loraloom.bases import Target
from loraloom.bases.names import Plain, changed
from loraloom.errors import UnknownFormat

_MOST = 4  # parts of an unknown prefix
# What stands before the names of another model than the base's own parts: no prefix, but another thing.
_OTHERS = re.compile(
    r"(controlnet|vae|first_stage_model|image_encoder|ip_adapter|adapter|reference|motion|prior|decoder|t2i|safety|unet_|text_encoder)\w*"
)
_HALVES = re.compile(r"(?<![a-z])(?P<side>A|B|down|up)(?=\.|$)")


@dataclass
class Names:
    """`plain` has the names into which something was put, by key. The others are their own."""

    plain: dict[str, str] = field(default_factory=dict)
    adapters: dict[str, str] = field(default_factory=dict)  # the adapter's name within a key, where there is one
    around: Counter[str] = field(default_factory=Counter)  # how many names have what put into them

    @classmethod
    def of(cls, keys: Collection[str]) -> "Names":
        found = cls()
        for key, plain in changed(keys).items():
            found.plain[key] = plain.name
            found._note(key, plain)
        return found

    def _note(self, key: str, plain: Plain) -> None:
        if plain.adapter:
            self.adapters[key] = plain.adapter
        if plain.around:
            self.around[plain.around] += 1

    def of_key(self, key: str) -> str:
        return self.plain.get(key, key)

    def without_prefix(self, keys: Collection[str], is_known: Callable[[str], bool]) -> bool:
        """Whether a prefix is all that stands between these keys and names that are known; it is left out from then on."""
        first = self.of_key(next(iter(keys), "")).split(".")
        for length in range(1, min(_MOST, len(first) - 1) + 1):
            prefix = ".".join(first[:length]) + "."
            names = {key: self.of_key(key) for key in keys}
            if any(map(_OTHERS.fullmatch, first[:length])) or not all(name.startswith(prefix) for name in names.values()):
                return False
            if any(is_known(name.removeprefix(prefix)) for name in names.values()):
                self.plain |= {key: name.removeprefix(prefix) for key, name in names.items()}
                self.around[prefix] += len(names)
                return True
        return False

    def refuse_several(self, file: str, targets: Mapping[str, Target]) -> None:
        """Raises UnknownFormat where a component's tensors are of more than one of PEFT's adapters."""
        if not self.adapters:
            return
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for key, target in targets.items():
            if _HALVES.search(self.of_key(key)):  # alpha and its like have no adapter's name
                found[target.component][self.adapters.get(key, "")] += 1
        for component, counts in found.items():
            if len(counts) > 1:
                listed = " and ".join(
                    f"{repr(name[:60]) if name else 'one without a name'} ({count} tensors)" for name, count in counts.items()
                )
                raise UnknownFormat(
                    f"{file}: holds several adapters of the {component}, {listed}; which one is meant is not said. Save one alone, "
                    "with PEFT's save_pretrained(folder, selected_adapters=[...])"
                )


class Repeated(NamedTuple):
    """Of a target that is named more than once: the keys of its first name, the copies of these, each with its first, and the rest."""

    keys: Mapping[str, str]  # with our suffix
    copies: Mapping[str, str]
    rest: tuple[str, ...]


def repeated(keys: Mapping[str, str], names: Names, prefixes: Iterable[str], separator: str) -> Repeated:
    """`keys` are those of one target with our suffixes, `prefixes` its names in the order of what counts first: the name that has the
    most tensors, the first where several have as many. Tensors of two names, or of two spellings of a pair, are never mixed."""
    if len({*keys.values()}) == len(keys):
        return Repeated(keys, {}, ())
    order = list(prefixes)
    groups: defaultdict[tuple[int, str], dict[str, str]] = defaultdict(dict)
    for key, suffix in keys.items():
        name = names.of_key(key)
        index = next((index for index, prefix in enumerate(order) if name.startswith(prefix + separator)), len(order))
        spelled = name[len(order[index]) + 1 :] if index < len(order) else suffix
        half = _HALVES.search(spelled)
        groups[index, "" if half is None else "AB" if half["side"] in "AB" else _HALVES.sub("", spelled)][key] = suffix
    pairs = sorted(
        ({index for index, _ in groups}), key=lambda index: (-sum(len(each) for (at, _), each in groups.items() if at == index), index)
    )
    first = pairs[0]
    styles = sorted((style for at, style in groups if at == first and style), key=lambda style: -len(groups[first, style]))
    chosen = {**groups.get((first, ""), {}), **(groups[first, styles[0]] if styles else {})}
    firsts = {suffix: key for key, suffix in chosen.items()}
    copies = {key: firsts[suffix] for key, suffix in keys.items() if key not in chosen and suffix in firsts}
    return Repeated(chosen, copies, tuple(key for key in keys if key not in chosen and key not in copies))
