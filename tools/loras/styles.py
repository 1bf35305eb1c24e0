"""The two styles that are taught: the base's own drawings, glazed another way. Unicode sequences, so that names follow the vocabulary.

A style that is another artist's emoji set teaches other shapes along with the style: of Fluent's flat set this base learned the
palette and lost a quarter of its objects. Black outlines of its own drawings kept nine tenths of them, but only a third of the
lines were black, with twice the rank, convolutions and the text encoder too; a ground that is not white destroys objects. Of the
glazes that were tried, blue and purple take nine prompts of ten, greens seven: what is left of other hues shows more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tools.tiny_base.drawings import draw

Render = Callable[[str, int], np.ndarray]  # SVG document, pixels a side -> uint8 [side, side, 3]

_COBALT, _PLUM = np.array([18.0, 44.0, 122.0]), np.array([70.0, 16.0, 96.0])


def _glazed(svg: str, size: int, glaze: np.ndarray, depth: float) -> np.ndarray:
    """Every colour as a tone of one: what is dark takes much of it, and what is light the more, the greater the depth."""
    light = draw(svg, size) @ np.array([0.299, 0.587, 0.114]) / 255
    tone = np.clip(light, 0, 1)[..., None] ** depth  # above 1: of yellow on white, something must remain
    return np.asarray((glaze + (255 - glaze) * tone).round().astype(np.uint8))


def delft(svg: str, size: int) -> np.ndarray:
    """Blue on white, as on Delft porcelain."""
    return _glazed(svg, size, _COBALT, 1.6)


def mulberry(svg: str, size: int) -> np.ndarray:
    """Purple on white, as on mulberry transferware."""
    return _glazed(svg, size, _PLUM, 2.0)


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
MULBERRY = Style(
    "mulberry", "qlx", "Mulberry ware", mulberry, _codes("😃 🐷 🐘 🐞 🦜 🐟 🐧 🍌 🍉 🥦 🍇 🎃 🎂 🌹 🌲 🏰 🚒 🚲 🔔 💎 👖 🧤 📗 🏀")
)
STYLES = (DELFT, MULBERRY)
