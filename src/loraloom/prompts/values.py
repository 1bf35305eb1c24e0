"""The values inside a tag: text with its column -> schedule, position, block weights, ranks, component. Mistakes know their column."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from loraloom.errors import PromptError, suggestion
from loraloom.prompts.nearly import INVISIBLE
from loraloom.schedule import MAX_POINTS, MAX_STRENGTH, Point, Position, Schedule, Unit, bare_unit, number
from loraloom.strength import LBW_BLOCKS, LBW_PRESETS, MODULES

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_POSITION = re.compile(rf"({_NUMBER.pattern})(s|%)?")
_FLUX = 61  # numbers of sd-webui-lora-block-weight for it: BLOCKIDFLUX
_COUNTS = "12, 17, 20 or 26"  # of LBW_BLOCKS
_NOT_FINITE = {"nan", "inf", "infinity"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the prompt, without spaces around it, that knows where it stands."""

    source: str
    start: int
    stop: int

    @property
    def text(self) -> str:
        return INVISIBLE.sub("", self.source[self.start : self.stop])

    def error(self, message: str) -> PromptError:
        return PromptError(message, prompt=self.source, column=self.start, length=max(1, self.stop - self.start))

    def cut(self, start: int, stop: int) -> "Piece":
        """The part between two columns of the prompt, trimmed. An empty part stands where its first character would be."""
        text = self.source[start:stop]
        start += (len(text) - len(text.lstrip())) if text.strip() else 0
        return Piece(self.source, start, start + len(text.strip()))

    def split(self, marks: str) -> list["Piece"]:
        """The parts between any of these characters, each trimmed."""
        cuts = [place for place in range(self.start, self.stop) if self.source[place] in marks]
        return [self.cut(left + 1, right) for left, right in pairwise([self.start - 1, *cuts, self.stop])]


def read_number(piece: Piece) -> float:
    """A finite decimal number within the bounds of a strength."""
    if not piece.text:
        raise piece.error("a number is missing here")
    if piece.text.lower().lstrip("+-") in _NOT_FINITE:
        raise piece.error(f'a strength is a finite number, not "{piece.text}"')
    if not _NUMBER.fullmatch(piece.text):
        raise piece.error(f'"{piece.text}" is not a number; write one such as 0.8')
    if not abs(value := float(piece.text)) <= MAX_STRENGTH:
        raise piece.error(f"{piece.text} is too large; strengths go from -{number(MAX_STRENGTH)} to {number(MAX_STRENGTH)}")
    return value


def read_schedule(piece: Piece) -> Schedule:
    """`0.8`, `0~1`, or points `strength@position` with `,` (hold) and `~` (ramp) between them."""
    if ";" in piece.text:
        raise piece.error("points stand between , (hold until the next) and ~ (ramp to the next), not between ;")
    points = piece.split(",~")
    if len(points) > MAX_POINTS:
        raise points[MAX_POINTS].error(f"a schedule has at most {MAX_POINTS} points")
    ramps = [piece.source[point.start : right.start].find("~") >= 0 for point, right in pairwise(points)]
    halves = [point.split("@") for point in points]
    for half in halves:
        if len(half) > 2:
            raise half[2].error("a point has one position, as in 0.5@6")
    values = [read_number(half[0]) for half in halves]
    bare = [half[0] for half in halves if len(half) == 1]
    if len(bare) == len(points) == 1:
        return Schedule.of(values[0])
    if len(bare) == len(points) == 2 and ramps == [True]:
        return Schedule.ramp(*values)
    if bare:
        if len(bare) == len(points) > 2 and not any(ramps):
            raise piece.error(f"{len(bare)} numbers without positions; as block weights they are {_COUNTS}, as a schedule 0.2@1,0.9@6")
        hint = "; a decimal number is written with a dot" if len(points) == 2 == len(bare) else ""
        raise bare[0].error(f"{bare[0].text} has no position; write {bare[0].text}@STEP, or a~b for a ramp over the whole run{hint}")
    positions = read_positions([half[1] for half in halves])
    return Schedule(tuple(map(Point, values, positions, [*ramps, False])))


def read_positions(pieces: list[Piece], *, rising: bool = True) -> list[Position]:
    """The positions of one value, in one unit; strictly rising ones, if that is asked for."""
    found = []
    for piece in pieces:
        if not piece.text:
            raise piece.error("a position is missing here; write a step such as 6, or a part of the run such as 50%")
        match = _POSITION.fullmatch(piece.text)
        if not match or not math.isfinite(float(match[1])):
            raise piece.error(f'"{piece.text}" is not a position; write a step (6 or 6s) or a part of the run (50% or 0.5)')
        if float(match[1]) < 0:
            raise piece.error(f"{piece.text} lies before the run; positions start at 0")
        found.append((piece, match[1], match[2]))
    steps = any(suffix == "s" for _, _, suffix in found)
    unit = "step" if steps else bare_unit(float(value) / (100 if suffix else 1) for _, value, suffix in found)
    positions = [_position(piece, value, suffix, unit) for piece, value, suffix in found]
    for (piece, _, _), left, right in zip(found[1:], positions, positions[1:], strict=False):
        if left.unit != right.unit:
            raise piece.error("the positions of one value are all steps or all parts of the run; write all with s or all with %")
        if rising and left.value >= right.value:
            raise piece.error(f"positions must rise; {piece.text} does not come after the position before it")
    return positions


def _position(piece: Piece, value: str, suffix: str | None, bare: Unit) -> Position:
    if suffix == "%" or (suffix is None and bare == "fraction"):
        # Decimal: 33.3% is the float nearest to 0.333, as if it were written so.
        fraction = float(Decimal(value) / 100) if suffix and float(value) else float(value)
        if fraction > 1:
            raise piece.error(f"{piece.text} lies after the end of the run, which is at 100%")
        return Position(fraction, "fraction")
    if not float(value).is_integer():
        raise piece.error(f"{piece.text} stands for a step here, and steps are whole numbers; write a part of the run with %")
    return Position(float(value), "step")


def is_lbw(piece: Piece) -> bool:
    """Whether a value without a key is block weights, as sd-webui-lora-block-weight took them first: `<lora:ink:1:OUTALL>`."""
    text = piece.text
    return text.upper() in LBW_PRESETS or (text.count(",") + 1 in LBW_BLOCKS and "@" not in text and "~" not in text)


def read_lbw(piece: Piece) -> tuple[float, ...]:
    """A preset's name in any case, or 12, 17, 20 or 26 plain numbers."""
    if preset := LBW_PRESETS.get(piece.text.upper()):
        return preset
    if "@" in piece.text or "~" in piece.text:
        raise piece.error("lbw takes plain numbers, no schedule; te, unet, in, mid and out take schedules")
    parts = piece.split(",")
    if chance := next((part for part in parts if re.fullmatch(r"[RU]|X[+-]?[0-9.]*", part.text)), None):
        raise chance.error(f"{chance.text}: random and relative block weights are not supported; write a number")
    if len(parts) == 1 and not _NUMBER.fullmatch(piece.text):
        raise piece.error(f'"{piece.text}" is not a block-weight preset{suggestion(piece.text, LBW_PRESETS)}')
    factors = tuple(read_number(part) for part in parts)
    if len(factors) not in LBW_BLOCKS:
        hint = "; for Flux use in=, mid= and out=" if len(factors) == _FLUX else ""
        raise piece.error(f"lbw has {_COUNTS} numbers, not {len(factors)}{hint}")
    return factors


def read_dyn(piece: Piece) -> int:
    """The number of ranks that stay."""
    if "@" in piece.text or "~" in piece.text or "," in piece.text:
        raise piece.error("dyn takes one whole number, no schedule")
    if not re.fullmatch(r"[0-9]{1,9}", piece.text) or int(piece.text) == 0:
        raise piece.error(f'dyn is the number of ranks that stay, a whole number from 1, not "{piece.text}"')
    return int(piece.text)


def read_module(piece: Piece) -> str:
    """A component's short name."""
    name = {"transformer": "unet", "dit": "unet"}.get(piece.text, piece.text)
    if name not in MODULES:
        raise piece.error(f'no component "{piece.text}"; there are {", ".join(MODULES)}{suggestion(piece.text, MODULES)}')
    return name


def read_span(piece: Piece) -> tuple[Position, Position]:
    """`8-16`: the first and the last position, of one unit."""
    ends = piece.split("-")
    if len(ends) != 2:
        raise piece.error("step takes the first and the last one, as in step=8-16; start= and stop= take one each")
    found = read_positions(ends, rising=False)
    return found[0], found[1]


def read_place(piece: Piece) -> Position:
    """One position, for `start` and `stop`."""
    if "@" in piece.text or "~" in piece.text or "," in piece.text:
        raise piece.error("start and stop take one position, such as 6 or 50%")
    return read_positions([piece])[0]
