"""Where chance comes from: a generator for each (run seed, step, sample, purpose), never a stream that something could shift.

So a run that stops and goes on, or is spread over processes, draws what a straight run draws; and turning one option on
leaves what the others draw as it was.
"""

import hashlib
import json
from dataclasses import dataclass
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
