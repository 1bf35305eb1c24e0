"""SD.Next's own loader: names and formulas of modules/lora, re-enacted."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from loraloom.bases import Base, Layer
from tools.interchange import maths
from tools.interchange.maths import Own
from tools.interchange.peer import Change, Place, Reenacted, flat, original


class SDNext(Reenacted):
    name: ClassVar[str] = "sdnext"
    title: ClassVar[str] = "SD.Next"
    version: ClassVar[str] = "058a7f0c"

    def names(self, layer: Layer, base: Base) -> Iterator[str]:
        """A name with dots is joined and looked up with its component before it, which the names that end in lora_A never are."""
        if layer.target.component == "unet":
            yield from (f"lora_unet_{flat(layer.target.module)}", f"lora_unet_{flat(original(layer))}")
        elif layer.target.component == "text_encoder_2":
            yield f"lora_te2_{flat(layer.target.module)}"
        else:
            yield from (f"lora_te_{flat(layer.target.module)}", f"lora_te1_{flat(layer.target.module)}")

    def change(self, own: Own, place: Place, strength: float) -> Change | None:
        kind = maths.kind(own)
        if place.layer.kind == "embedding":
            return None  # a LoRA is made of linear layers and convolutions alone
        if kind == "norm":
            return Change(strength * own["w_norm"], strength * own["b_norm"] if "b_norm" in own else None)
        found = self._weight(kind, own, place.weight)
        if found is None:
            return None
        if "dora_scale" in own:
            changed = place.weight + found
            rows = own["dora_scale"].shape[0] == len(place.weight)
            found = changed * own["dora_scale"] / maths.norms(changed, 0 if rows else 1) - place.weight
        return Change(strength * found, strength * own["diff_b"] if kind == "full" and "diff_b" in own else None)

    def _weight(self, kind: str, own: Own, weight: Tensor) -> Tensor | None:
        """GLoRA is that of before LyCORIS 3.0, whose products do not fit today's shapes; OFT is clamped whatever alpha is."""
        if kind in ("lora", "loha", "lokr", "full"):
            found, rank = maths.product(own, weight.shape)
            return found * maths.scale(own, rank)
        if kind == "oft":
            return maths.turned(maths.turns(own["oft_blocks"], float(own["alpha"]) * len(weight)), weight) - weight
        if kind == "ia3" and weight.ndim == 2:
            return weight * (own["weight"] if own["on_input"] else own["weight"].reshape(-1, 1))
        return None
