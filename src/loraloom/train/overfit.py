"""Overfitting in words: what the losses of held-out and of trained pictures allow to say, and no more."""

import math
from dataclasses import dataclass

from loraloom.train.record import Measured, Record, mean

_FEW = 5  # held-out samples of fewer pictures are called a hint


@dataclass(frozen=True)
class _Change:
    """From one look to another, sample by sample: the noise of the draws is the same in both and falls out."""

    part: float  # of the earlier mean
    clear: bool  # beyond twice its standard error

    @classmethod
    def of(cls, before: tuple[float, ...], after: tuple[float, ...]) -> "_Change":
        differences = tuple(b - a for a, b in zip(before, after, strict=True))
        middle = mean(differences)
        spread = math.sqrt(math.fsum((each - middle) ** 2 for each in differences) / max(1, len(differences) - 1))
        return cls(middle / max(mean(before), 1e-12), abs(middle) > 2 * spread / math.sqrt(len(differences)))

    @property
    def fell(self) -> bool:
        return self.clear and self.part < 0

    @property
    def rose(self) -> bool:
        return self.clear and self.part > 0

    def __str__(self) -> str:
        if not self.clear:
            return "did not change beyond chance"
        return f"{'fell' if self.part < 0 else 'rose'} by {abs(self.part):.1%}"


def report(record: Record, pictures: int) -> str:
    """One to three sentences; nothing where nothing was held out. `pictures` is how many were."""
    first, lowest, last = record.first, record.lowest, record.last
    if first is None or lowest is None or last is None or first == last:
        return ""
    words = f"held-out loss {first.loss:.4f} at step {first.step}, {last.loss:.4f} at step {last.step}. {_verdict(first, lowest, last)}"
    return words + (f" With {pictures} held-out picture{'s' * (pictures > 1)} this is a hint, no proof." if pictures < _FEW else "")


def _verdict(first: Measured, lowest: Measured, last: Measured) -> str:
    held, trained = _Change.of(first.held_out, last.held_out), _Change.of(first.trained, last.trained)
    since = _Change.of(lowest.held_out, last.held_out)
    if since.rose:
        when = f"The held-out loss was lowest at step {lowest.step} ({lowest.loss:.4f}) and {since} since"
        return f"{when}, while that of trained pictures {_Change.of(lowest.trained, last.trained)}: it overfits from there on."
    if held.fell:
        end = "was lowest at the end, so more steps may help" if lowest.step == last.step else f"was lowest at step {lowest.step}"
        return f"No overfitting seen: it {held}, that of trained pictures {trained}; it {end}."
    if trained.fell:
        return f"It {held}, while that of trained pictures {trained}: what was learned are these pictures, not what they have in common."
    return f"It {held}, and that of trained pictures {trained}: hardly anything was learned; try a higher learning rate or more steps."
