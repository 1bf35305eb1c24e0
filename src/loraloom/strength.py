"""How strong a network is: a number for every place in the model and every sampler step. No torch, no text parsing."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from loraloom.errors import SettingsError

Unit = Literal["step", "fraction"]
Third = Literal["in", "mid", "out"]

MAX_STRENGTH = 1e6  # larger numbers overflow float16 in every model; with this bound no sum or product here overflows
MAX_POINTS = 1000  # a schedule from a stranger stays cheap to ask

# Names of block-weight vectors: facts from sd-webui-lora-block-weight (hako-mikan), its built-in presets.
# 17 numbers: BASE, IN01 02 04 05 07 08, M00, OUT03 to OUT11.
LBW_PRESETS: dict[str, tuple[float, ...]] = {
    "NONE": (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "ALL": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "INS": (1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "IND": (1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "INALL": (1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "MIDD": (1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0),
    "OUTD": (1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0),
    "OUTS": (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1),
    "OUTALL": (1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "ALL0.5": (0.5,) * 17,
}
# Numbers in a vector -> (blocks of the family, the blocks that the numbers after the first stand for).
# From the same extension (BLOCKID12/17/20/26); 25 blocks are SD 1.x (12 in, 1 mid, 12 out), 19 are SDXL (9, 1, 9).
LBW_BLOCKS: dict[int, tuple[int, tuple[int, ...]]] = {
    12: (19, (4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15)),
    17: (25, (1, 2, 4, 5, 7, 8, 12, 16, 17, 18, 19, 20, 21, 22, 23, 24)),
    20: (19, tuple(range(19))),
    26: (25, tuple(range(25))),
}
# What `module=` may name -> the components that stay on. Two-expert models keep the high-noise expert in `transformer`.
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_DENOISERS = ("unet", "transformer", "transformer_2")
MODULES: dict[str, tuple[str, ...]] = {
    "unet": _DENOISERS,
    "te": _TEXT_ENCODERS,
    "te1": ("text_encoder",),
    "te2": ("text_encoder_2",),
    "te3": ("text_encoder_3",),
    "high": ("transformer",),
    "low": ("transformer_2",),
}


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
            _check_strength(point.value)
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a target module stands. `block` counts the family's blocks in order of execution from 0, thirds included;
    None for what stands before or after the blocks (time embedding, `conv_norm_out`). Text encoders have neither third nor block.
    """

    component: str  # unet, transformer, text_encoder, text_encoder_2, text_encoder_3
    third: Third | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        if self.is_text != (self.third is None) or (self.is_text and self.block is not None):
            raise SettingsError(f"{self.component}: a denoiser's module has a third (in, mid, out), a text encoder's has none")

    @property
    def is_text(self) -> bool:
        return self.component.startswith("text_encoder")


# Every place that differs for the rule "which number counts", block numbers aside.
_PLACES = tuple(Place(name) for name in _TEXT_ENCODERS) + tuple(Place(name, third) for name in _DENOISERS for third in ("in", "mid", "out"))


@dataclass(frozen=True)
class Strength:
    """What a user gave for one network. A schedule that is None was not given, and the next one of the rule counts:
    `in_`/`mid`/`out`, else `te1`/`te2`/`te3`/`unet`, else `te` for text encoders, else `default`.
    """

    default: Schedule = field(default_factory=lambda: Schedule.of(1.0))
    te: Schedule | None = None
    te1: Schedule | None = None
    te2: Schedule | None = None
    te3: Schedule | None = None
    unet: Schedule | None = None
    in_: Schedule | None = None
    mid: Schedule | None = None
    out: Schedule | None = None
    lbw: tuple[float, ...] | None = None  # 12, 17, 20 or 26 factors
    dyn: int | None = None  # only the first `dyn` ranks
    module: str | None = None  # a key of MODULES: every other component is 0
    start: Position | None = None  # 0 before this step
    stop: Position | None = None  # 0 after this step
    also: tuple["Strength", ...] = ()  # further tags of the same network: added, place by place and step by step

    def __post_init__(self) -> None:
        if self.lbw is not None:
            if len(self.lbw) not in LBW_BLOCKS:
                raise SettingsError(f"lbw has 12, 17, 20 or 26 numbers, not {len(self.lbw)}")
            for factor in self.lbw:
                _check_strength(factor)
        if self.dyn is not None and self.dyn < 1:
            raise SettingsError(f"dyn is the number of ranks that stay, 1 or more, not {self.dyn}")
        if self.module is not None and self.module not in MODULES:
            raise SettingsError(f'no module "{self.module}"; there are {", ".join(MODULES)}')
        if never_on(self.start, self.stop):
            raise SettingsError(f"start {self.start} comes after stop {self.stop}: the network would never be on")

    @classmethod
    def of(cls, value: float) -> "Strength":
        """The same strength for every module and step."""
        return cls(Schedule.of(value))

    def __add__(self, other: "Strength") -> "Strength":
        """The same network twice: `at` of the sum is the sum of both `at`. SettingsError if the two cut ranks differently."""
        if self.dyn != other.dyn:
            cuts = " and ".join("all ranks" if dyn is None else f"dyn={dyn}" for dyn in (self.dyn, other.dyn))
            raise SettingsError(f"the same network is used twice, with {cuts}; give both the same dyn")
        return replace(self, also=(*self.also, replace(other, also=()), *other.also))

    def at(self, place: Place, step: int, steps: int) -> float:
        """The strength of a module at `place` in step `step` (from 1) of `steps`."""
        total = sum(part.at(place, step, steps) for part in self.also)
        off = (self.start and not self.start.reached(step, steps)) or (self.stop and self.stop.along(step, steps) > self.stop.value)
        if off or not self._covers(place):
            return total
        return total + self._schedule(place).at(step, steps) * self._factor(place)

    @cached_property
    def is_constant(self) -> bool:
        """True if no module's strength changes from step to step, whatever the number of steps."""
        first = (Position(0.0, "step"), Position(1.0, "step"), Position(0.0, "fraction"), None)
        always = self.start in first and self.stop in (Position(1.0, "fraction"), None)
        schedules = [self._schedule(place) for place in _PLACES if self._covers(place)]
        own = self._is_own_zero or (always and all(schedule.constant for schedule in schedules))
        return own and all(part.is_constant for part in self.also)

    @cached_property
    def is_zero(self) -> bool:
        """True if every tag of this network is 0 at every place and step: it need not be loaded."""
        return self._is_own_zero and all(part.is_zero for part in self.also)

    @property
    def lbw_blocks(self) -> frozenset[int]:
        """How many blocks the base must have for the `lbw` vectors given here: 25 (SD 1.x), 19 (SDXL); empty without lbw."""
        own = {LBW_BLOCKS[len(self.lbw)][0]} if self.lbw else set()
        return frozenset(own).union(*(part.lbw_blocks for part in self.also))

    def unreachable(self, steps: int) -> tuple[Position, ...]:
        """The positions of schedules and `start` that a run of `steps` never reaches: worth a warning."""
        schedules = dict.fromkeys(self._schedule(place) for place in _PLACES if self._covers(place))
        late = [point.position for schedule in schedules for point in schedule.unreachable(steps)]
        if self.start and not self.start.reached(steps, steps):
            late.append(self.start)
        return (*late, *(position for part in self.also for position in part.unreachable(steps)))

    @cached_property
    def _is_own_zero(self) -> bool:
        def zero(place: Place) -> bool:
            factors = () if self.lbw is None else self.lbw[:1] if place.is_text else self.lbw[1:]
            return (self.lbw is not None and not any(factors)) or not any(point.value for point in self._schedule(place).points)

        return all(zero(place) for place in _PLACES if self._covers(place))

    def _covers(self, place: Place) -> bool:
        return self.module is None or place.component in MODULES[self.module]

    def _schedule(self, place: Place) -> Schedule:
        """The rule "which number counts for a module". Each number replaces the ones after it."""
        if place.is_text:
            own = {"text_encoder": self.te1, "text_encoder_2": self.te2, "text_encoder_3": self.te3}.get(place.component)
            return own or self.te or self.default
        return {"in": self.in_, "mid": self.mid, "out": self.out}[place.third or "mid"] or self.unet or self.default

    def _factor(self, place: Place) -> float:
        """What `lbw` multiplies by. The first number: text encoders. A block that the vector does not list: 0, as in the
        extension. A module outside the blocks follows its third's outermost number, so that NONE is off and ALL is on
        (the extension leaves it at 1)."""
        if self.lbw is None:
            return 1.0
        if place.is_text:
            return self.lbw[0]
        count, listed = LBW_BLOCKS[len(self.lbw)]
        middle = count // 2
        if place.block is None:
            return self.lbw[1] if place.third == "in" else self.lbw[-1]
        third = "in" if place.block < middle else "mid" if place.block == middle else "out"
        if place.component != "unet" or third != place.third or place.block >= count:
            raise SettingsError(
                f"lbw with {len(self.lbw)} numbers is for a UNet of {count} blocks ({'SDXL' if count == 19 else 'SD 1.x'}), "
                f"not for block {place.block} ({place.third}) of this {place.component}; use in=, mid= and out=, which fit every base"
            )
        return self.lbw[1 + listed.index(place.block)] if place.block in listed else 0.0


def never_on(start: Position | None, stop: Position | None) -> bool:
    """True if no run has a step between the two. Positions of different units cannot be compared without a run."""
    return start is not None and stop is not None and start.unit == stop.unit and start.value > stop.value


def _check_strength(value: float) -> None:
    if not abs(value) <= MAX_STRENGTH:
        raise SettingsError(f"a strength is a number between -{number(MAX_STRENGTH)} and {number(MAX_STRENGTH)}, not {value}")
