"""sd-scripts' networks/lora.py: names and formulas, re-enacted. Its networks/oft.py looks for `oft_unet_` names, which we do not write."""

import re
from collections.abc import Iterator
from typing import ClassVar

from loraloom.bases import Base, Layer
from tools.interchange import maths
from tools.interchange.maths import Own
from tools.interchange.peer import Change, Place, Reenacted, flat, original

_UNET = re.compile(r"attentions|resnets|downsamplers|upsamplers")  # Transformer2DModel, ResnetBlock2D and the samplers
_TEXT = re.compile(r"\.(self_attn|mlp)\.")


class SDScripts(Reenacted):
    name: ClassVar[str] = "kohya"
    title: ClassVar[str] = "sd-scripts"
    version: ClassVar[str] = "48d368fa"

    def names(self, layer: Layer, base: Base) -> Iterator[str]:
        xl, module = "text_encoder_2" in base.components, layer.target.module
        if layer.target.component == "unet" and _UNET.search(module):
            yield f"lora_unet_{flat(original(layer) if xl else module)}"
        elif layer.target.component != "unet" and _TEXT.search(module):
            number = ("2" if layer.target.component == "text_encoder_2" else "1") if xl else ""
            yield f"lora_te{number}_{flat(module)}"

    def change(self, own: Own, place: Place, strength: float) -> Change | None:
        """LoRA alone, without magnitude and bias. A core is passed over: the 1×1 of its two ends is added to every point of the kernel."""
        if maths.kind(own) != "lora":
            return None
        up, down = own["lora_up.weight"].flatten(1), own["lora_down.weight"]
        whole = up @ down.flatten(1)
        if "lora_mid.weight" in own:
            whole = whole[..., None, None].expand(place.weight.shape)
        return Change(strength * maths.scale(own, len(down)) * whole.reshape(place.weight.shape))
