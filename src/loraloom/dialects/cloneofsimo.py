"""cloneofsimo/lora: `unet:0:down`, `text_encoder:0:up`, the modules counted in the order that diffusers 0.11 had them. Read only.

In each transformer block attn1, the GEGLU projection, attn2; the mid block after the up blocks; in a text encoder k, v, q, out.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import ClassVar

from loraloom.bases import Base, Layer, Target
from loraloom.dialects.base import Dialect

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_UNET = (*(f"attn1.{name}" for name in _ATTENTION), "ff.net.0.proj", *(f"attn2.{name}" for name in _ATTENTION))
_TEXT = ("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj")


class Cloneofsimo(Dialect):
    name: ClassVar[str] = "cloneofsimo"
    title: ClassVar[str] = "cloneofsimo"
    separator: ClassVar[str] = ":"
    suffixes: ClassVar[Mapping[str, str]] = {"down": "lora_down.weight", "up": "lora_up.weight"}
    configured: ClassVar[bool] = False

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        number = _numbers(base).get(layer.target)
        return () if number is None else (f"{layer.target.component}:{number}",)

    def refuse(self, targets: Collection[Target], base: Base) -> str | None:
        """Numbers mean modules only if all are counted: its extended mode counts convolutions too."""
        for component in dict.fromkeys(target.component for target in targets):
            have = sum(target.component == component for target in targets)
            need = sum(target.component == component for target in _numbers(base))
            if have != need:
                return f"counts {have} modules of the {component}, {base.title} has {need}; which is which cannot be told"
        return None

    def reason(self, key: str) -> str | None:
        return "a textual inversion token of cloneofsimo's, no change of a module" if key.startswith("<") and key.endswith(">") else None


@cache
def _numbers(base: Base) -> dict[Target, int]:
    """Each counted module's number within its component."""
    numbers: dict[Target, int] = {}
    for component in base.components:
        endings = _UNET if component == "unet" else _TEXT
        blocks: dict[str, dict[str, Target]] = {}
        for layer in base.layers:
            module = layer.target.module
            ending = next((ending for ending in endings if module.endswith(f".{ending}")), None)
            if layer.target.component == component and ending is not None:
                blocks.setdefault(module.removesuffix(ending), {})[ending] = layer.target
        ordered = sorted(blocks, key=lambda name: name.startswith("mid_block"))  # stable: else in order of execution
        targets = [blocks[name][ending] for name in ordered for ending in endings if ending in blocks[name]]
        numbers |= {target: number for number, target in enumerate(targets)}
    return numbers
