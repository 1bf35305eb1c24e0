"""ComfyUI and Forge, whose loader is ComfyUI's of 2024: names and formulas of comfy/lora.py and comfy/weight_adapter, re-enacted."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from loraloom.bases import Base, Layer, Target
from tools.interchange import maths
from tools.interchange.maths import Own
from tools.interchange.peer import Change, Place, Reenacted, flat, original

_TEXT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
_PROJECTION = Target("text_encoder_2", "text_projection")


class Forge(Reenacted):
    name: ClassVar[str] = "forge"
    title: ClassVar[str] = "Forge"
    version: ClassVar[str] = "dfdcbab6"

    def names(self, layer: Layer, base: Base) -> Iterator[str]:
        component, module = layer.target.component, layer.target.module
        if component == "unet":
            yield from (f"lora_unet_{flat(original(layer))}", f"lora_unet_{flat(module)}", f"lycoris_{flat(module)}")
            yield f"diffusion_model.{original(layer)}"
            processed = module.replace(".to_", ".processor.to_").removesuffix(".0")
            yield from (processed, f"unet.{processed}")
        elif module.endswith(_TEXT):
            second = component == "text_encoder_2"
            yield from (f"lora_te2_{flat(module)}",) if second else (f"lora_te_{flat(module)}", f"lora_te1_{flat(module)}")
            yield f"{component}.{module}"
        elif layer.target == _PROJECTION:
            yield "lora_te2_text_projection"

    def change(self, own: Own, place: Place, strength: float) -> Change | None:
        bias = strength * own["diff_b"] if "diff_b" in own else None
        kind = maths.kind(own)
        if kind == "norm":
            return Change(strength * own["w_norm"], strength * own["b_norm"] if "b_norm" in own else None)
        weight = self._weight(kind, own, place.weight, strength)
        return None if weight is None and bias is None else Change(weight, bias)

    def _weight(self, kind: str, own: Own, weight: Tensor, strength: float) -> Tensor | None:
        if kind in ("lora", "loha", "lokr", "full"):
            found = self._product(kind, own, weight)
        elif kind == "glora":
            found = None if "bm.weight" in own and weight.ndim == 4 else maths.glora(own, weight)
        else:
            return None
        if found is None:
            return None
        return strength * (self._dora(own["dora_scale"], weight, found) if "dora_scale" in own else found)

    def _product(self, kind: str, own: Own, weight: Tensor) -> Tensor | None:
        """A LoKr's product of a part that is not contiguous is logged as an error, and the module stays as it was."""
        if kind != "lokr":
            found, rank = maths.product(own, weight.shape)
            return found * maths.scale(own, rank)
        try:
            return maths.kron(*maths.lokr_parts(own), weight.shape) * maths.scale(own, maths.lokr_rank(own))
        except RuntimeError:
            return None

    def _dora(self, magnitude: Tensor, weight: Tensor, change: Tensor) -> Tensor:
        """Magnitudes of rows are divided by the norms of W, those of columns by the norms of W with its change."""
        changed = weight + change
        rows = magnitude.shape[0] == len(weight)
        return changed * magnitude / (maths.norms(weight, 0) if rows else maths.norms(changed, 1)) - weight


class ComfyUI(Forge):
    name: ClassVar[str] = "comfyui"
    title: ClassVar[str] = "ComfyUI"
    version: ClassVar[str] = "a125cd84"

    def names(self, layer: Layer, base: Base) -> Iterator[str]:
        yield from super().names(layer, base)
        if layer.place.is_text:
            clip = "clip_g" if layer.target.component == "text_encoder_2" else "clip_l"
            yield f"text_encoders.{clip}.transformer.{layer.target.module}"

    def _weight(self, kind: str, own: Own, weight: Tensor, strength: float) -> Tensor | None:
        """Rotations besides. The strength is in the rotation already when the change is multiplied by it again."""
        if kind not in ("oft", "boft"):
            return super()._weight(kind, own, weight, strength)
        alpha = float(own["alpha"])
        rotations = maths.turns(own["oft_blocks"], alpha if alpha > 0 else None)
        identity = torch.eye(rotations.shape[-1])
        if kind == "oft":
            change = strength * (maths.turned(rotations, weight) - weight)
        else:
            change = maths.butterfly(rotations * strength + (1 - strength) * identity, weight)
            change = change * own.get("rescale", torch.ones(())) - weight
        return strength * (self._dora(own["dora_scale"], weight, alpha * change) if "dora_scale" in own else change)
