"""How strong a network is at every place of the model and every sampler step. No torch, no text parsing."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from loraloom.errors import SettingsError
from loraloom.schedule import Position, Schedule, check_strength, never_on

Third = Literal["in", "mid", "out"]

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
        return is_text_encoder(self.component)


def is_text_encoder(component: str) -> bool:
    """Whether a component reads text: `text_encoder`, `text_encoder_2`, ... in diffusers' names."""
    return component.startswith("text_encoder")


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
                check_strength(factor)
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
        if not (self._on(step, steps) and self.covers(place)):
            return total
        return total + self._schedule(place).at(step, steps) * self._factor(place)

    def flat(self, steps: int) -> "Strength":
        """The same at every step: each schedule is its mean over the steps of a run of `steps`, with 0 for those before `start` and
        after `stop`. At every place `at` of it is the mean of this strength's own, to 12 digits."""
        run = range(1, steps + 1)
        on = [self._on(step, steps) for step in run]

        def mean(schedule: Schedule) -> Schedule:
            values = [schedule.at(step, steps) if working else 0.0 for step, working in zip(run, on, strict=True)]
            # 12 digits: 0.27 and not 0.26999999999999996.
            return Schedule.of(values[0] if len(set(values)) == 1 else float(f"{math.fsum(values) / steps:.12g}"))

        given: dict[str, Any] = {name: mean(value) for name, value in vars(self).items() if isinstance(value, Schedule)}
        return replace(self, **given, start=None, stop=None, also=tuple(part.flat(steps) for part in self.also))

    @cached_property
    def is_constant(self) -> bool:
        """True if no module's strength changes from step to step, whatever the number of steps."""
        return all(self.constant_at(place) for place in _PLACES)

    def constant_at(self, place: Place) -> bool:
        """True if a module at `place` has one strength at every step, whatever the number of steps."""
        first = (Position(0.0, "step"), Position(1.0, "step"), Position(0.0, "fraction"), None)
        always = self.start in first and self.stop in (Position(1.0, "fraction"), None)
        own = self._own_zero_at(place) or (always and self._schedule(place).constant)
        return own and all(part.constant_at(place) for part in self.also)

    def zero_at(self, place: Place) -> bool:
        """True if every tag is 0 at `place` at every step."""
        return self._own_zero_at(place) and all(part.zero_at(place) for part in self.also)

    @cached_property
    def is_zero(self) -> bool:
        """True if every tag of this network is 0 at every place and step: it need not be loaded."""
        return all(self.zero_at(place) for place in _PLACES)

    @property
    def lbw_blocks(self) -> frozenset[int]:
        """How many blocks the base must have for the `lbw` vectors given here: 25 (SD 1.x), 19 (SDXL); empty without lbw."""
        own = {LBW_BLOCKS[len(self.lbw)][0]} if self.lbw else set()
        return frozenset(own).union(*(part.lbw_blocks for part in self.also))

    def unreachable(self, steps: int) -> tuple[Position, ...]:
        """The positions of schedules and `start` that a run of `steps` never reaches: worth a warning."""
        schedules = dict.fromkeys(self._schedule(place) for place in _PLACES if self.covers(place))
        late = [point.position for schedule in schedules for point in schedule.unreachable(steps)]
        if self.start and not self.start.reached(steps, steps):
            late.append(self.start)
        return (*late, *(position for part in self.also for position in part.unreachable(steps)))

    def _on(self, step: int, steps: int) -> bool:
        """Whether the step is one of those from `start` to `stop`."""
        if self.start is not None and not self.start.reached(step, steps):
            return False
        return self.stop is None or self.stop.along(step, steps) <= self.stop.value

    def _own_zero_at(self, place: Place) -> bool:
        if not self.covers(place) or not any(point.value for point in self._schedule(place).points):
            return True
        # A third's outermost number says nothing of its other blocks, so a place without a block is 0 only where all are.
        named = place.is_text or place.block is not None
        return self.lbw is not None and (self._factor(place) == 0 if named else not any(self.lbw[1:]))

    def covers(self, place: Place) -> bool:
        """Whether `module` leaves this place on."""
        return self.module is None or place.component in MODULES[self.module]

    @staticmethod
    def chain(place: Place) -> tuple[str, ...]:
        """The rule "which number counts for a module", as fields: each replaces the ones after it."""
        if place.is_text:
            own = {"text_encoder": ("te1",), "text_encoder_2": ("te2",), "text_encoder_3": ("te3",)}.get(place.component, ())
            return (*own, "te", "default")
        return ({"in": "in_", "mid": "mid", "out": "out"}[place.third or "mid"], "unet", "default")

    def deciding(self, place: Place) -> str:
        """The field whose number counts for a module at `place`."""
        return next(field for field in self.chain(place) if getattr(self, field) is not None)

    def _schedule(self, place: Place) -> Schedule:
        found: Schedule = getattr(self, self.deciding(place))
        return found

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
