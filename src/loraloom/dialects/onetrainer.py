"""OneTrainer's newer files (OMI): `unet.<original name>` and `clip_l.`, `clip_g.`, with kohya's endings. Its older ones are kohya's."""

from typing import ClassVar

from loraloom.bases import Base, Layer
from loraloom.dialects import spelling
from loraloom.dialects.base import Dialect


class OneTrainer(Dialect):
    name: ClassVar[str] = "onetrainer"
    title: ClassVar[str] = "OneTrainer"
    configured: ClassVar[bool] = False

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        component = layer.target.component
        prefixes = (spelling.clip(layer, base), "clip_l") if component == "text_encoder" else (spelling.clip(layer, base),)
        names = spelling.modules(layer)
        return tuple(dict.fromkeys(f"{prefix}.{name}" for prefix in prefixes for name in (spelling.original(layer), *names)))

    def reason(self, key: str) -> str | None:
        return "a helper tensor of OneTrainer's training, which it drops itself" if "_aux." in key else None
