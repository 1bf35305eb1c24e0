"""A mix that changes by step as one that does not: each schedule is its mean over the steps of a run. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from loraloom.lorafile import Stack
from loraloom.prompts import LoraTag
from loraloom.strength import Strength


@dataclass(frozen=True)
class Flattened:
    """The mix with one strength for all steps."""

    stack: Stack = field(repr=False)
    steps: int  # of the run that the means are of
    mix: str  # the same in tags
    warnings: tuple[str, ...]


def flatten(stack: Stack, steps: int) -> Flattened:
    """Every strength as its mean over a run of `steps`: for each text encoder, the denoiser and each of its thirds its own."""
    flat = tuple((file, strength.flat(steps)) for file, strength in stack)
    late = (
        f"{file.name}: {position} is beyond a run of {steps} steps and counts for nothing"
        for file, strength in stack
        for position in dict.fromkeys(strength.unreachable(steps))
    )
    return Flattened(flat, steps, "".join(tag for file, strength in flat for tag in _tags(file.name, strength)), tuple(late))


def _tags(name: str, strength: Strength) -> Iterator[str]:
    for each in (replace(strength, also=()), *strength.also):
        yield str(LoraTag(name, each.default, each))
