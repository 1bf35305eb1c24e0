"""Where chance comes from: a generator for each (run seed, step, sample, purpose), never a stream that something could shift.

So a run that stops and goes on, or is spread over processes, draws what a straight run draws; and turning one option on
leaves what the others draw as it was.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, device


def generator(*names: str | int, device: "device | str" = "cpu") -> "Generator":
    """A generator of its own for these names; the run's seed is the first of them. Each kind of device draws other numbers."""
    digest = hashlib.blake2b(json.dumps(names).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


@dataclass(frozen=True)
class Sample:
    """One picture at one place of the run."""

    seed: int
    step: int  # from 1
    picture: int  # index in the dataset
    name: str  # the picture's file, the epoch and the repeat: the same picture twice in one step draws twice

    def generator(self, purpose: str, device: "device | str" = "cpu") -> "Generator":
        return generator(self.seed, self.step, self.name, purpose, device=device)

    def chance(self, purpose: str) -> float:
        """Uniform in 0..1."""
        return float(torch.rand((), generator=self.generator(purpose)))


@dataclass(frozen=True)
class Order:
    """Every epoch takes each picture as often as its folder says, in an order of its own; steps run through the epochs."""

    seed: int
    names: tuple[str, ...]  # of the pictures
    repeats: tuple[int, ...]

    @property
    def epoch_length(self) -> int:
        return sum(self.repeats)

    def samples(self, step: int, count: int) -> tuple[Sample, ...]:
        """The `count` samples of `step`, counted from 1."""
        return tuple(self._walk(step, count))

    def _walk(self, step: int, count: int) -> Iterator[Sample]:
        entries = [(picture, repeat) for picture, times in enumerate(self.repeats) for repeat in range(times)]
        for place in range((step - 1) * count, step * count):
            epoch, position = divmod(place, len(entries))
            picture, repeat = entries[_shuffled(self.seed, epoch, len(entries))[position]]
            yield Sample(self.seed, step, picture, f"{self.names[picture]}#{epoch}.{repeat}")


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=generator(seed, "order", epoch)).tolist())
