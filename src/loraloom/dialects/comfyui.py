"""ComfyUI's generic names: `diffusion_model.<original name>` and `text_encoders.clip_l.transformer.<module>`."""

from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters import Adapter
from loraloom.bases import Base, Layer
from loraloom.dialects import spelling
from loraloom.dialects.base import Dialect
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# What its loader passes over in silence (comfy/weight_adapter).
_PASSED_OVER = frozenset({"on_input", "oft_R.weight", "oft_diag", "bias_indices"})
_SCALES = frozenset({"scale", "scalar"})  # it knows alpha/rank only


class ComfyUI(Dialect):
    name: ClassVar[str] = "comfyui"
    title: ClassVar[str] = "ComfyUI"
    writes: ClassVar[bool] = True

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        if not spelling.is_text(layer):
            return (f"diffusion_model.{spelling.original(layer)}",)
        letters = dict.fromkeys((spelling.clip(layer, base), "clip_l" if layer.target.component == "text_encoder" else "clip_g"))
        return tuple(f"text_encoders.{clip}.transformer.{name}" for clip in letters for name in spelling.modules(layer))

    def write_tensors(self, adapter: Adapter, layer: Layer, base: Base) -> "dict[str, Tensor]":
        own, scaling = adapter.tensors(), adapter.scaling()
        if lost := sorted(_PASSED_OVER & own.keys()):
            raise self.cannot_hold(layer, f"the type {adapter.name} ({', '.join(lost)} would be passed over)")
        if scaling is not None and own.keys() & _SCALES:
            own["alpha"] = torch.tensor(scaling[0] * scaling[1])
        prefix = self.spell(layer, base)[0]
        return {f"{prefix}.{suffix}": tensor for suffix, tensor in own.items() if suffix not in _SCALES}
