"""kohya (sd-scripts), LyCORIS in it, OneTrainer's older files: `lora_unet_` or `lora_te_` and the module's name, dots as underscores.

SDXL is written as its trainer sees it, with the original names of the UNet (`lora_unet_input_blocks_4_1_...`) and a number for
each text encoder (`lora_te1_`, `lora_te2_`); SD 1.x and 2.x with diffusers' names and `lora_te_`. Either spelling is read.
sd-scripts' own OFT says `oft_unet_`, `oft_te_`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from loraloom.bases import Base, Layer
from loraloom.dialects import bundled, spelling
from loraloom.dialects.base import Dialect
from loraloom.errors import BadTensor
from loraloom.lorafile import Embeddings

if TYPE_CHECKING:
    from torch import Tensor

_PREFIXES = {
    "unet": ("unet",),
    "text_encoder": ("te", "te1"),  # diffusers writes te1 for SD 1.x too
    "text_encoder_2": ("te2",),
}


class Kohya(Dialect):
    name: ClassVar[str] = "kohya"
    title: ClassVar[str] = "kohya"
    writes: ClassVar[bool] = True
    configured: ClassVar[bool] = False
    suffixes: ClassVar[Mapping[str, str]] = {"down.weight": "lora_down.weight", "up.weight": "lora_up.weight"}

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        names = spelling.modules(layer)
        prefixes = _PREFIXES.get(layer.target.component, (layer.target.component,))
        if _is_xl(base):
            names, prefixes = (spelling.original(layer), *names), prefixes[::-1]
        prefixes = tuple(f"{kind}_{prefix}" for kind in ("lora", "oft") for prefix in prefixes)
        spelled = [f"{prefix}_{name.replace('.', '_')}" for name in names for prefix in prefixes]
        # `..._to_q_lora.down.weight`: what diffusers' convert_state_dict_to_kohya makes of a UNet beside text encoders.
        return tuple(dict.fromkeys([*spelled, *(f"{name}_lora" for name in spelled if layer.target.component == "unet")]))

    def fix(self, group: "dict[str, Tensor]", spelled: Mapping[str, str], layer: Layer, metadata: Mapping[str, str]) -> "dict[str, Tensor]":
        """sd-scripts clamps its OFT to alpha, whatever alpha is; LyCORIS, with the same suffixes, only if it is above 0. Raises BadTensor
        for one below 0, which sd-scripts would turn the other way by a length that training never had."""
        if spelled.get("oft_blocks", "").startswith("oft_") and "alpha" in group:
            if float(group["alpha"]) < 0:
                raise BadTensor(f"{spelled['alpha']}: {float(group['alpha']):g} limits a rotation to less than none; set it to 0 or above")
            if float(group["alpha"]) == 0:
                group["oft_blocks"] = group["oft_blocks"] * 0
        return super().fix(group, spelled, layer, metadata)

    def write_embeddings(self, embeddings: Embeddings, base: Base) -> "dict[str, Tensor]":
        return bundled.spelled(embeddings, base)


def _is_xl(base: Base) -> bool:
    """SDXL's layout: a UNet and two text encoders."""
    return {"unet", "text_encoder_2"} <= set(base.components)
