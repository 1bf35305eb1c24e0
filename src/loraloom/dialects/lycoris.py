"""LyCORIS' own wrapper, around one module: `lycoris_<module>` with dots as underscores; SimpleTuner too. Also without any prefix.

The wrapper does not say what it was around. Text encoders are written as those of a wrapper around the whole pipeline are.
"""

from typing import ClassVar

from loraloom.bases import Base, Layer
from loraloom.dialects import spelling
from loraloom.dialects.base import Dialect

_SHORT = {"text_encoder": ("te", "te1"), "text_encoder_2": ("te2",)}


class Lycoris(Dialect):
    name: ClassVar[str] = "lycoris"
    title: ClassVar[str] = "LyCORIS"
    writes: ClassVar[bool] = True
    configured: ClassVar[bool] = False

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        component = layer.target.component
        names = [name.replace(".", "_") for name in spelling.modules(layer)]
        named = [f"lycoris_{part}_{name}" for part in (component, *_SHORT.get(component, ())) for name in names]
        bare = [f"lycoris_{name}" for name in names]
        plain = [name for name in names if "_" in name]
        return tuple(dict.fromkeys((*bare, *named, *plain) if component == "unet" else (*named, *bare, *plain)))
