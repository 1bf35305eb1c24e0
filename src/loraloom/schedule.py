"""When a network is how strong: positions in a run, and a strength for every sampler step. No torch, no text parsing."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from loraloom.errors import SettingsError

Unit = Literal["step", "fraction"]

MAX_STRENGTH = 1e6  # larger numbers overflow float16 in every model; with this bound no sum or product here overflows
MAX_POINTS = 1000  # a schedule from a stranger stays cheap to ask


@dataclass(frozen=True, slots=True)
class Position:
    """A sampler step (whole, counted from 1; 0 is before the run) or a fraction of the run (0 first step, 1 last)."""

    value: float
    unit: Unit

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise SettingsError(f"a position is 0 or more, not {self.value}")
        if self.unit == "step" and self.value != int(self.value):
            raise SettingsError(f"a step is a whole number, not {self.value}; use a fraction of the run instead")
        if self.unit == "fraction" and self.value > 1:
            raise SettingsError(f"a fraction of the run is at most 1, not {self.value}")

    def along(self, step: int, steps: int) -> float:
        """Where step `step` (from 1) of `steps` stands, in this position's unit. The only step of a run of one is at fraction 0."""
        if not 1 <= step <= steps:
            raise SettingsError(f"there is no step {step} in a run of {steps}; steps count from 1")
        return float(step) if self.unit == "step" else (step - 1) / max(1, steps - 1)

    def reached(self, step: int, steps: int) -> bool:
        """True from the first step that stands at this position or after it."""
        return self.along(step, steps) >= self.value

    def __str__(self) -> str:
        return written([self])[0]


def bare_unit(values: Iterable[float]) -> Unit:
    """The unit of positions written without `s` or `%`: steps if any is above 1, or if it is a single 1; else fractions."""
    found = list(values)
    return "step" if max(found, default=0) > 1 or found == [1] else "fraction"


def written(positions: Iterable[Position]) -> list[str]:
    """The positions of one value as a prompt writes them, with `s` or `%` only where they are needed."""
    found = list(positions)
    if bare_unit(position.value for position in found) == found[0].unit:
        return [number(position.value) for position in found]
    # A fraction gets here only as a single 1: every other set of fractions is read as fractions.
    return [f"{number(position.value)}s" if position.unit == "step" else "100%" for position in found]


def number(value: float) -> str:
    """The shortest text that reads back as exactly this number: `1`, `0.8`, `-0.25`."""
    return repr(float(value)).removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Point:
    """A strength from a position on. `ramp`: straight on to the next point's strength; else it holds until there."""

    value: float
    position: Position
    ramp: bool = False


@dataclass(frozen=True)
class Schedule:
    """A strength for every step. Before the first point the first value holds, after the last point the last."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.points) <= MAX_POINTS:
            raise SettingsError(f"a schedule has 1 to {MAX_POINTS} points, not {len(self.points)}")
        for point in self.points:
            check_strength(point.value)
        if self.points[-1].ramp:
            raise SettingsError("the last point of a schedule has no next point to ramp to; set its ramp to False")
        for left, right in zip(self.points, self.points[1:], strict=False):
            if left.position.unit != right.position.unit:
                raise SettingsError("the positions of one schedule are all steps or all fractions")
            if left.position.value >= right.position.value:
                raise SettingsError(f"positions must rise: {left.position} comes before {right.position}")

    @classmethod
    def of(cls, value: float) -> "Schedule":
        """The same strength at every step."""
        return cls((Point(value, Position(0.0, "fraction")),))

    @classmethod
    def ramp(cls, start: float, stop: float) -> "Schedule":
        """A straight ramp over the whole run: `start` at the first step, `stop` at the last (`start` in a run of one step)."""
        return cls((Point(start, Position(0.0, "fraction"), ramp=True), Point(stop, Position(1.0, "fraction"))))

    @cached_property
    def constant(self) -> bool:
        """True if every step has the same strength."""
        return all(point.value == self.points[0].value for point in self.points)

    def at(self, step: int, steps: int) -> float:
        """The strength at step `step` (from 1) of `steps`. Always finite; exactly a point's value on its position."""
        here = self.points[0].position.along(step, steps)
        if self.constant:
            return self.points[0].value
        passed = sum(point.position.value <= here for point in self.points)
        left = self.points[max(0, passed - 1)]
        if not left.ramp or passed == 0:
            return left.value
        right = self.points[passed]
        share = (here - left.position.value) / (right.position.value - left.position.value)
        return left.value + (right.value - left.value) * share

    def unreachable(self, steps: int) -> tuple[Point, ...]:
        """The points that no step of a run of `steps` reaches: worth a warning."""
        return tuple(point for point in self.points if not point.position.reached(steps, steps))

    def __str__(self) -> str:
        """The text that reads back as this schedule."""
        if self == Schedule.of(self.points[0].value):
            return number(self.points[0].value)
        if self == Schedule.ramp(self.points[0].value, self.points[-1].value):
            return f"{number(self.points[0].value)}~{number(self.points[1].value)}"
        places = written(point.position for point in self.points)
        texts = [f"{number(point.value)}@{place}" for point, place in zip(self.points, places, strict=True)]
        return texts[0] + "".join(("~" if left.ramp else ",") + text for left, text in zip(self.points, texts[1:], strict=False))


def check_strength(value: float) -> None:
    """Raises SettingsError for a number that no model can hold."""
    if not abs(value) <= MAX_STRENGTH:
        raise SettingsError(f"a strength is a number between -{number(MAX_STRENGTH)} and {number(MAX_STRENGTH)}, not {value}")


def never_on(start: Position | None, stop: Position | None) -> bool:
    """True if no run has a step between the two. Positions of different units cannot be compared without a run."""
    return start is not None and stop is not None and start.unit == stop.unit and start.value > stop.value
