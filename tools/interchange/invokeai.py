"""InvokeAI: names and formulas of backend/patches, re-enacted. One module of a type that it does not know refuses the whole file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from safetensors.torch import load_file

from loraloom.bases import Base, Layer, Target
from tools.interchange import maths
from tools.interchange.maths import Own
from tools.interchange.peer import Change, Place, Places, Reenacted, Refused, flat, original


class InvokeAI(Reenacted):
    name: ClassVar[str] = "invokeai"
    title: ClassVar[str] = "InvokeAI"
    version: ClassVar[str] = "8e71a8a5"

    def names(self, layer: Layer, base: Base) -> Iterator[str]:
        xl = "text_encoder_2" in base.components
        if layer.target.component == "unet":
            yield f"lora_unet_{flat(layer.target.module)}"
            if xl:
                yield f"lora_unet_{flat(original(layer))}"
        else:
            number = ("2" if layer.target.component == "text_encoder_2" else "1") if xl else ""
            yield f"lora_te{number}_{flat(layer.target.module)}"

    def changes(self, path: Path, places: Places, base: Base, strength: float) -> Mapping[Target, Change]:
        groups: dict[str, dict[str, object]] = {}
        for key, tensor in load_file(path).items():
            stem, _, leaf = key.partition(".")
            groups.setdefault(stem, {})[leaf] = tensor
        for stem, own in groups.items():
            if not own.keys() & {"lora_up.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a", "diff", "on_input", "w_norm"}:
                raise Refused(f"{stem}: unsupported format")
            if "dora_scale" in own and "lora_up.weight" not in own:
                raise Refused(f"{stem}: a magnitude without a LoRA")
        return super().changes(path, places, base, strength)

    def change(self, own: Own, place: Place, strength: float) -> Change | None:
        kind, weight = maths.kind(own), place.weight
        if kind == "norm":
            return Change(strength * own["w_norm"], strength * own["b_norm"] if "b_norm" in own else None)
        if kind == "ia3":
            factor = own["weight"] if own["on_input"] else own["weight"].reshape(-1, 1)
            if weight.ndim != 2:
                raise Refused("its product with a kernel has no shape")
            return Change(strength * weight * factor)
        found, rank = maths.product(own, weight.shape)
        found = found * maths.scale(own, rank)
        if "dora_scale" in own:
            changed = weight + found
            magnitude = own["dora_scale"]
            if magnitude.shape[0] == len(weight) != weight.shape[1] and weight.ndim == 4:
                magnitude = magnitude.reshape(-1, *[1] * (weight.ndim - 1))
            found = changed * magnitude / maths.norms(changed, 1) - weight  # of columns, whatever the vector is
        return Change(strength * found, strength * own["diff_b"] if kind == "full" and "diff_b" in own else None)
