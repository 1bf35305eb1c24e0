"""The two styles that are taught: which emoji set, which concepts. Unicode sequences, so that names follow the vocabulary."""

from dataclasses import dataclass

from tools.tiny_base.sources import FLUENT_FLAT, FLUENT_LINE, Source


@dataclass(frozen=True)
class Style:
    name: str
    trigger: str
    title: str
    source: Source
    hexcodes: tuple[str, ...]  # what it is taught from


def _codes(emoji: str) -> tuple[str, ...]:
    return tuple("-".join(f"{ord(point):X}" for point in one) for one in emoji.split())


FLAT = Style("flat", "zvz", "Flat colours", FLUENT_FLAT, _codes("😀 😎 🐶 🐸 🐢 🦋 🍎 🍕 🍩 🥕 🏠 🚗 🚀 ⛵ ⚽ 🎁 🔑 🧢 💡 🌵 🍄 🎈 🦊 🧁"))
LINE = Style("line", "qlx", "Ink lines", FLUENT_LINE, _codes("😃 🤓 🐱 🐷 🐘 🐝 🍌 🍔 🍦 🌽 🏰 🚌 🚲 ⚓ 🏀 🎂 🔔 📷 🔨 🌲 🍇 👑 🐧 🥐"))
STYLES = (FLAT, LINE)
