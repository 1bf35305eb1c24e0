"""What a run remembers besides its tensors: how it went so far. Part of the saved state."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Measured:
    """Losses after `step` steps, one for each of the same samples every time."""

    step: int
    held_out: tuple[float, ...]
    trained: tuple[float, ...]

    @property
    def loss(self) -> float:
        return mean(self.held_out)


@dataclass(frozen=True)
class Best:
    step: int
    loss: float  # held-out, or smoothed where nothing is held out


@dataclass
class Record:
    started: float = field(default_factory=time.time)  # seconds since 1970, of the first start
    best: Best | None = None
    first: Measured | None = None
    lowest: Measured | None = None
    last: Measured | None = None

    def measured(self, found: Measured) -> None:
        self.first, self.last = self.first or found, found
        if self.lowest is None or found.loss < self.lowest.loss:
            self.lowest = found

    def better(self, step: int, loss: float) -> bool:
        """Whether this is the best step so far; it is remembered then. A loss that is no number never is."""
        if math.isnan(loss) or (self.best is not None and loss >= self.best.loss):
            return False
        self.best = Best(step, loss)
        return True

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """What `as_json` gave, back; an empty one is a run that begins."""
        if not found:
            return cls()
        first, lowest, last = (_measured(found[name]) for name in ("first", "lowest", "last"))
        best = Best(**found["best"]) if found["best"] else None
        return cls(found["started"], best, first, lowest, last)


def _measured(found: Mapping[str, Any] | None) -> Measured | None:
    return Measured(found["step"], tuple(found["held_out"]), tuple(found["trained"])) if found else None


def mean(values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(values)
