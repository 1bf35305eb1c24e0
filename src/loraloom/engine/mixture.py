"""Which network is how strong: for each picture and half of guidance, at each place of the model, at each step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from loraloom.bases import Base
from loraloom.lorafile import LoraFile, Mix
from loraloom.strength import Place, Strength

Half = Literal["pos", "neg"]  # of classifier-free guidance: with the prompt, and with the negative prompt


@dataclass(frozen=True)
class Network:
    """One file, cut to its first `dyn` ranks if that is asked for."""

    file: LoraFile
    dyn: int | None = None


Column = Mapping[Network, Strength]


class Mixture:
    """The mixes of one attach. Pictures and halves with the same strengths share a column; one column means that rows do not matter."""

    def __init__(self, mixes: Mix | Sequence[Mix], base: Base | None = None) -> None:
        """Raises SettingsError where one file is cut to different ranks, NotSupported for block weights of another base than `base`."""
        several = [mixes] if isinstance(mixes, Mix) else list(mixes) or [Mix()]
        places: dict[tuple[tuple[Network, Strength], ...], int] = {}

        def place(stack: Iterable[tuple[LoraFile, Strength]]) -> int:
            return places.setdefault(tuple(_summed(stack).items()), len(places))

        self._halves: list[Mapping[Half, int]] = [
            {"pos": place(mix.positive), "neg": place((*mix.positive, *mix.negative))} for mix in several
        ]
        self.columns: tuple[Column, ...] = tuple(dict(column) for column in places)
        self.networks: tuple[Network, ...] = tuple(dict.fromkeys(network for column in self.columns for network in column))
        self.pictures = len(several)
        self._steady: dict[tuple[Network, Place], float | None] = {}
        for column in self.columns:
            for network, strength in column.items():
                if base is not None:
                    base.require_blocks(network.file.name, strength)

    def column(self, picture: int, half: Half) -> int:
        return self._halves[picture][half]

    @cached_property
    def one(self) -> bool:
        """Whether all rows run the same strengths."""
        return len(self.columns) == 1

    def strengths(self, network: Network) -> tuple[Strength, ...]:
        """The network's strength in each column; 0 where it is not used."""
        return tuple(column.get(network, _OFF) for column in self.columns)

    def off_at(self, network: Network, place: Place) -> bool:
        """True if the network is 0 there in every column at every step."""
        return all(strength.zero_at(place) for strength in self.strengths(network))

    def steady_at(self, network: Network, place: Place) -> float | None:
        """The one strength that the network has there for every row and step; None if it has several.

        Modules are many and places few: each is worked out once.
        """
        if (network, place) not in self._steady:
            strengths = self.strengths(network)
            values = {strength.at(place, 1, 1) for strength in strengths}
            steady = len(values) == 1 and all(strength.constant_at(place) for strength in strengths)
            self._steady[network, place] = values.pop() if steady else None
        return self._steady[network, place]


class Slots:
    """The numbers that change a model: one for each network and place that is in use. `at` gives them all for a step."""

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture
        self._slots: dict[tuple[Network, Place], int] = {}
        self._known: dict[tuple[int, int], tuple[tuple[float, ...], ...]] = {}

    def slot(self, network: Network, place: Place) -> int:
        """The number of this network's strength at `place`; made if it is new."""
        return self._slots.setdefault((network, place), len(self._slots))

    def __len__(self) -> int:
        return len(self._slots)

    def of_text(self) -> list[int]:
        """The slots of text encoders."""
        return [slot for (_, place), slot in self._slots.items() if place.is_text]

    def vary(self, slots: Iterable[int]) -> bool:
        """Whether any of these changes by step."""
        asked = set(slots)
        return any(
            not all(strength.constant_at(place) for strength in self._mixture.strengths(network))
            for (network, place), slot in self._slots.items()
            if slot in asked
        )

    def differ(self, slots: Iterable[int]) -> bool:
        """Whether any of these differs between columns."""
        asked = set(slots)
        return any(len(set(self._mixture.strengths(network))) > 1 for (network, _), slot in self._slots.items() if slot in asked)

    def at(self, step: int, steps: int) -> tuple[tuple[float, ...], ...]:
        """[column][slot] at step `step` (from 1) of `steps`."""
        if (step, steps) not in self._known:
            columns = self._mixture.columns
            self._known[step, steps] = tuple(
                tuple(column[network].at(place, step, steps) if network in column else 0.0 for network, place in self._slots)
                for column in columns
            )
        return self._known[step, steps]


_OFF = Strength.of(0.0)


def _summed(stack: Iterable[tuple[LoraFile, Strength]]) -> dict[Network, Strength]:
    """Each file once: twice the same network is the sum of both, in the positive and the negative prompt too."""
    found: dict[int, tuple[LoraFile, Strength]] = {}
    for file, strength in stack:
        found[id(file)] = (file, found[id(file)][1] + strength if id(file) in found else strength)
    return {Network(file, strength.dyn): strength for file, strength in found.values()}
