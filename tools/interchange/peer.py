"""What a program that reads networks is, here: what it makes of a file, module by module."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from loraloom.adapters import Adapter
from loraloom.bases import Base, Layer, Target
from tools.interchange.maths import Own

# Endings of other namings that all of these programs know.
_ENDINGS = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}


class Refused(Exception):
    """The program reads nothing of the file: it raises, or says that it does not know the format."""


class Change(NamedTuple):
    weight: Tensor | None = None
    bias: Tensor | None = None


class Place(NamedTuple):
    """A layer of the base with its values."""

    layer: Layer
    weight: Tensor
    bias: Tensor | None


Places = Mapping[Target, Place]


class Peer(ABC):
    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[str]

    @abstractmethod
    def changes(self, path: Path, places: Places, base: Base, strength: float) -> Mapping[Target, Change]:
        """What it adds to the weights and biases; modules that it does not find are not in it. Raises Refused."""

    def expected(self, adapter: Adapter, place: Place, strength: float) -> Change:
        """What the change is meant to be, in the same terms."""
        bias = None if place.bias is None else adapter.bias_delta(place.bias)
        return Change(strength * adapter.delta(place.weight), None if bias is None else strength * bias)


class Reenacted(Peer):
    """By the names that it looks for and its formulas, written again from what its code does; not its code."""

    @abstractmethod
    def names(self, layer: Layer, base: Base) -> Iterator[str]:
        """Every prefix under which it looks for the tensors of a layer."""

    @abstractmethod
    def change(self, own: Own, place: Place, strength: float) -> Change | None:
        """None where it passes the tensors over; raises Refused."""

    def changes(self, path: Path, places: Places, base: Base, strength: float) -> Mapping[Target, Change]:
        tensors = {key: tensor.float() for key, tensor in load_file(path).items()}
        found = {}
        for target, place in places.items():
            for name in self.names(place.layer, base):
                own = self.own(tensors, name)
                if own and (change := self.change(own, place, strength)) is not None:
                    found[target] = change
        return found

    def own(self, tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        suffixes = {key: key.removeprefix(f"{name}.") for key in tensors if key.startswith(f"{name}.")}
        return {_ENDINGS.get(suffix, suffix): tensors[key] for key, suffix in suffixes.items()}


def flat(name: str) -> str:
    return name.replace(".", "_")


def original(layer: Layer) -> str:
    return layer.target.module if layer.original is None else layer.original
