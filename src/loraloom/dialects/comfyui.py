"""ComfyUI's generic names: `diffusion_model.<original name>` and `text_encoders.clip_l.transformer.<module>`."""

from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters import Adapter
from loraloom.bases import Base, Layer
from loraloom.dialects import spelling
from loraloom.dialects.base import Dialect
from loraloom.dialects.stored import is_free, stored
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# What its loader passes over in silence (comfy/weight_adapter).
_PASSED_OVER = frozenset({"on_input", "oft_R.weight", "oft_diag", "bias_indices", "bm.weight"})


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
        own = stored(adapter, layer)
        if lost := sorted(_PASSED_OVER & own.keys()):
            raise self.cannot_hold(layer, f"the type {adapter.name} ({', '.join(lost)} would be passed over)")
        if "oft_blocks" in own and (reason := _misread(own)):
            raise self.cannot_hold(layer, f"the type {adapter.name} ({reason})")
        if "lokr_t2" in own:
            raise self.cannot_hold(layer, "a LoKr with a Tucker core (its product of a core that is not contiguous fails)")
        if "b_norm" in own and "w_norm" not in own:  # which it reads beside a weight's change only
            own["w_norm"] = torch.zeros_like(own["b_norm"])
        prefix = self.spell(layer, base)[0]
        return {f"{prefix}.{suffix}": tensor for suffix, tensor in own.items()}


def _misread(own: "dict[str, Tensor]") -> str | None:
    """What ComfyUI makes of a rotation that is not what it says; None where it reads it as it is."""
    if not is_free(own):
        return "its constraint would be taken for alpha instead of alpha times the outputs"
    if "dora_scale" in own:
        return "its alpha would be taken for the scale that DoRA's change has"
    return "rescale would be passed over" if "rescale" in own and own["oft_blocks"].ndim == 3 else None
