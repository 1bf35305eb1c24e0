"""PEFT's own files: `base_model.model.<module>.lora_A.weight`, the component unsaid, alpha in `adapter_config.json` beside them.

PEFT finds a tensor under the module's name in the live model alone, and transformers 5 dropped `text_model.` from CLIPTextModel's.
So a CLIPTextModel's tensors are written under both names: each version passes over the other's without a word.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from loraloom.adapters import Adapter
from loraloom.bases import Base, Layer, Target
from loraloom.dialects import peftconfig, quirks
from loraloom.dialects.base import Dialect
from loraloom.dialects.held import Held, hold

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "base_model.model"


class PeftFolder(Dialect):
    name: ClassVar[str] = "peft-folder"
    title: ClassVar[str] = "PEFT folder"
    writes: ClassVar[bool] = True
    folder: ClassVar[bool] = True

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        """As transformers 5 names the modules: `text_model.` only where there is a projection."""
        module, short = layer.target.module, layer.target.module.removeprefix("text_model.")
        names = (module, short) if _projects(layer.target.component, base) else (short, module)
        return tuple(dict.fromkeys(f"{_PREFIX}.{name}" for name in names))

    def fix(self, group: "dict[str, Tensor]", spelled: Mapping[str, str], layer: Layer, metadata: Mapping[str, str]) -> "dict[str, Tensor]":
        return quirks.turned(super().fix(group, spelled, layer, metadata), layer, metadata)

    def write_tensors(self, adapter: Adapter, layer: Layer, base: Base) -> "dict[str, Tensor]":
        prefixes = self.spell(layer, base)[: 1 if _projects(layer.target.component, base) else 2]
        held = self.held(adapter, layer).tensors
        return {f"{prefix}.{suffix}": tensor for prefix in prefixes for suffix, tensor in held.items()}

    def held(self, adapter: Adapter, layer: Layer) -> Held:
        """Raises DialectCannotHold."""
        held = hold(adapter, layer)
        if isinstance(held, str):
            raise self.cannot_hold(layer, held)
        return held

    def config(self, adapters: Mapping[Target, Adapter], base: Base) -> dict[str, Any]:
        """`adapter_config.json` for the adapters of one component; raises DialectCannotHold."""
        held: dict[str, Held] = {}
        for target, adapter in adapters.items():
            layer = base.by_target[target]
            name = self.spell(layer, base)[0].removeprefix(f"{_PREFIX}.")
            held[name] = self.held(adapter, layer)
            first = next(iter(held.values()))
            if (held[name].kind, held[name].options) != (first.kind, first.options):
                raise self.cannot_hold(layer, f"{held[name].kind} {dict(held[name].options)} beside {first.kind} {dict(first.options)}")
        component = next(iter(adapters)).component
        text = "CLIPTextModelWithProjection" if _projects(component, base) else "CLIPTextModel"
        model = "UNet2DConditionModel" if component == "unet" else text
        library = "diffusers" if component == "unet" else "transformers"
        return {
            **peftconfig.describe(held),
            "auto_mapping": {"base_model_class": model, "parent_library": library},
            "inference_mode": True,
            "task_type": None,
        }


def _projects(component: str, base: Base) -> bool:
    """Whether the component is a CLIPTextModelWithProjection, in which `text_model.` stayed."""
    return Target(component, "text_projection") in base.by_target
