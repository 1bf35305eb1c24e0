"""ai-toolkit: `diffusion_model.<module>` or `transformer.<module>` with `lora_A`, `lora_B`, no alpha (alpha = r), DoRA's `magnitude`."""

from typing import ClassVar

from loraloom.bases import Base, Layer
from loraloom.dialects import spelling
from loraloom.dialects.base import Dialect


class AiToolkit(Dialect):
    name: ClassVar[str] = "ai-toolkit"
    title: ClassVar[str] = "ai-toolkit"

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        component = layer.target.component
        prefixes = (component,) if spelling.is_text(layer) else ("diffusion_model", "transformer", component)
        return tuple(f"{prefix}.{layer.target.module}" for prefix in prefixes)
