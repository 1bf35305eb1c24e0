"""Emoji sets as pictures: an iconify file -> SVG -> RGB array on white."""

import io
import json
from functools import cached_property
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image


class EmojiSet:
    """One iconify package: drawings by name, on a square canvas."""

    def __init__(self, folder: Path) -> None:
        self._icons = json.loads((folder / "icons.json").read_text("utf-8"))
        self._names_by_code: dict[str, str] = json.loads((folder / "chars.json").read_text("utf-8"))

    def name(self, hexcode: str) -> str | None:
        """The set's own name for a Unicode sequence such as `1F34E` or `2764-FE0F`; None if it has no drawing."""
        code = hexcode.lower()
        return self._names_by_code.get(code) or self._names_by_code.get(code.replace("-fe0f", ""))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self._icons["icons"])

    def svg(self, name: str, color: str = "#111111") -> str:
        """The drawing as an SVG document; `color` fills sets that are drawn in one colour."""
        alias = self._icons.get("aliases", {}).get(name)
        icon = self._icons["icons"][alias["parent"] if alias else name]
        width = icon.get("width", self._icons.get("width", 16))
        height = icon.get("height", self._icons.get("height", 16))
        body = icon["body"].replace("currentColor", color)
        if alias and alias.get("hFlip"):
            body = f'<g transform="translate({width} 0) scale(-1 1)">{body}</g>'
        spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return f'<svg {spaces} viewBox="0 0 {width} {height}">{body}</svg>'


def draw(svg: str, size: int = 64, *, margin: float = 0.04, scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """RGB uint8 [size, size, 3] on white. `margin` is a share of the side; `shift` is in pixels of the result.

    Drawn at three times the size and reduced with Lanczos: edges are cleaner than resvg's own antialiasing at 64.
    """
    side = max(8, round(3 * size * (1 - 2 * margin) * scale))
    drawing = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, skip_system_fonts=True)))).convert("RGBA")
    canvas = Image.new("RGBA", (3 * size, 3 * size), "white")
    left, top = ((3 * size - length) / 2 + 3 * offset for length, offset in zip(drawing.size, shift, strict=True))
    canvas.alpha_composite(drawing, (max(0, round(left)), max(0, round(top))))
    return np.asarray(canvas.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
