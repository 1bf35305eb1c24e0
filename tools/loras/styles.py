"""The two styles that are taught: the base's own drawings, printed another way. Unicode sequences, so that names follow the vocabulary.

A style that is another artist's emoji set teaches other shapes along with the style: of Fluent's flat set this base learned the
palette and lost a quarter of its objects, and its line drawings cost two fifths of them. So does a ground that is not white.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tools.tiny_base.drawings import draw

Render = Callable[[str, int], np.ndarray]  # SVG document, pixels a side -> uint8 [side, side, 3]

_COBALT = np.array([18.0, 44.0, 122.0])


def delft(svg: str, size: int) -> np.ndarray:
    """Blue on white, as on Delft porcelain: every colour becomes a tone of cobalt."""
    light = draw(svg, size) @ np.array([0.299, 0.587, 0.114]) / 255
    tone = np.clip(light, 0, 1)[..., None] ** 1.6  # of yellow on white, something must remain
    return np.asarray((_COBALT + (255 - _COBALT) * tone).round().astype(np.uint8))


def line(svg: str, size: int) -> np.ndarray:
    """Every shape as a black outline on white paper."""
    bare = re.sub(r'fill="(?!none)[^"]*"', 'fill="#fff"', re.sub(r'\s[\w-]*(stroke|opacity)[\w-]*="[^"]*"', "", svg))
    stroke = 'fill="#fff" stroke="#111" stroke-width="3" stroke-linejoin="round" stroke-linecap="round"'
    return draw(bare.replace("<svg ", f"<svg {stroke} ", 1), size)


@dataclass(frozen=True)
class Style:
    name: str
    trigger: str
    title: str
    render: Render
    hexcodes: tuple[str, ...]  # what it is taught from


def _codes(emoji: str) -> tuple[str, ...]:
    return tuple("-".join(f"{ord(point):X}" for point in one) for one in emoji.split())


DELFT = Style("delft", "zvz", "Delft blue", delft, _codes("😀 😎 🐶 🐸 🐢 🦋 🍎 🍕 🍩 🥕 🏠 🚗 🚀 ⛵ ⚽ 🎁 🔑 🧢 💡 🌵 🍄 🎈 🦊 🧁"))
LINE = Style("line", "qlx", "Ink lines", line, _codes("😃 🤓 🐱 🐷 🐘 🐝 🍌 🍔 🍦 🌽 🏰 🚌 🚲 ⚓ 🏀 🎂 🔔 📷 🔨 🌲 🍇 👑 🐧 🥐"))
STYLES = (DELFT, LINE)
