"""A sheet of pictures: a row for each prompt, a column for each mix, labels in plain sight. Pixels only, no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK, _FAINT, _LINE = "#ffffff", "#1b1f24", "#6e7781", "#d8dee4"
_CELL = 192  # pixels: smaller pictures are enlarged to at least this side


@dataclass(frozen=True)
class _Box:
    """Wrapped text and the room that it takes, in pixels."""

    lines: tuple[str, ...]
    width: int
    height: int


def sheet(rows: Sequence[str], columns: Sequence[str], pictures: Sequence[Sequence[Image.Image]], *, caption: str = "") -> Image.Image:
    """`pictures[row][column]`, all of one size, on white with their labels; small ones enlarged by a whole factor."""
    wide, high = pictures[0][0].size
    factor = max(1, math.ceil(_CELL / min(wide, high)))
    wide, high = wide * factor, high * factor
    gap, margin = max(8, wide // 16), max(20, wide // 8)
    size = max(14, min(32, wide // 12))
    font, small = ImageFont.load_default(size), ImageFont.load_default(max(12, size * 3 // 4))

    tops = [_wrapped(label, font, wide) for label in columns]
    sides = [_wrapped(label, font, max(wide * 7 // 8, 8 * size)) for label in rows]
    foot = _wrapped(caption, small, len(columns) * (wide + gap) - gap)
    left = margin + max(box.width for box in sides) + 2 * gap
    top = margin + max(box.height for box in tops) + gap
    steps = [max(high, box.height) + gap for box in sides]
    width = left + len(columns) * (wide + gap) - gap + margin
    height = top + sum(steps) - gap + (2 * gap + foot.height if foot.lines else 0) + margin

    page = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(page)
    for column, box in enumerate(tops):
        _write(pen, box, font, left + column * (wide + gap) + wide // 2, top - gap - box.height, _INK, "ma")
    y = top
    for box, drawn, step in zip(sides, pictures, steps, strict=True):
        _write(pen, box, font, left - 2 * gap, y + (high - box.height) // 2 if box.height < high else y, _INK, "ra")
        for column, picture in enumerate(drawn):
            x = left + column * (wide + gap)
            page.paste(picture.convert("RGB").resize((wide, high), Image.Resampling.LANCZOS if factor > 1 else None), (x, y))
            pen.rectangle((x - 1, y - 1, x + wide, y + high), outline=_LINE)
        y += step
    _write(pen, foot, small, left, y - gap + 2 * gap, _FAINT, "la")
    return page


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> _Box:
    """Lines no wider than `room`: broken at spaces, and inside of a word only where it is wider by itself."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if font.getlength(longer) <= room:
                line = longer
                continue
            lines += [line] if line else []
            *full, line = _pieces(word, font, room)
            lines += full
        lines += [line] if line else []
    ascent = _line_height(font)
    return _Box(tuple(lines), math.ceil(max((font.getlength(line) for line in lines), default=0)), ascent * len(lines))


def _pieces(word: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > room:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _line_height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    low, high = font.getbbox("Ág")[1::2]
    return math.ceil((high - low) * 1.3)


def _write(
    pen: ImageDraw.ImageDraw, box: _Box, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, x: int, y: int, color: str, anchor: str
) -> None:
    for line in box.lines:
        pen.text((x, y), line, fill=color, font=font, anchor=anchor)
        y += _line_height(font)
