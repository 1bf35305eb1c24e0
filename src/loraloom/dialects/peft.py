"""diffusers/PEFT in one file: `unet.<module>.lora_A.weight`, alpha in the metadata or nowhere.

PEFT keeps alpha in its config, not in tensors. diffusers stores the config as JSON under `lora_adapter_metadata`, keys
prefixed by the component; a file without it means alpha = r (diffusers, `lora_base.py`).
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from loraloom.adapters import Adapter, LoRA
from loraloom.bases import Layer, Target
from loraloom.dialects.base import Dialect
from loraloom.errors import DialectCannotHold, UnknownFormat
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "lora_adapter_metadata"


class Peft(Dialect):
    name: ClassVar[str] = "peft"
    title: ClassVar[str] = "diffusers/PEFT"
    suffixes: ClassVar[Mapping[str, str]] = {
        "lora_A.weight": "lora_down.weight",
        "lora_B.weight": "lora_up.weight",
        "lora_B.bias": "diff_b",
        "lora_A.default.weight": "lora_down.weight",
        "lora_B.default.weight": "lora_up.weight",
        "lora.down.weight": "lora_down.weight",
        "lora.up.weight": "lora_up.weight",
        "lora_linear_layer.down.weight": "lora_down.weight",
        "lora_linear_layer.up.weight": "lora_up.weight",
    }

    def spell(self, layer: Layer) -> tuple[str, ...]:
        component, module = layer.target.component, layer.target.module
        # transformers 5 dropped `text_model.` from CLIPTextModel; files written with it lack the part.
        short = module.removeprefix("text_model.")
        return tuple(dict.fromkeys((f"{component}.{module}", f"{component}.{short}")))

    def fix(self, group: "dict[str, Tensor]", target: Target, metadata: Mapping[str, str]) -> "dict[str, Tensor]":
        if "lora_down.weight" not in group or "alpha" in group:
            return group
        rank = group["lora_down.weight"].shape[0]
        alpha = _alpha(_config(metadata, target.component), target.module, rank)
        if "diff_b" in group:
            group["diff_b"] = group["diff_b"] * (alpha / rank)  # PEFT scales the bias as it scales the product
        return group | {"alpha": torch.tensor(alpha)}

    def write_tensors(self, adapter: Adapter, layer: Layer) -> "dict[str, Tensor]":
        if not isinstance(adapter, LoRA) or adapter.mid is not None:
            what = "a Tucker core" if isinstance(adapter, LoRA) else f"the type {adapter.name}"
            raise DialectCannotHold(f"{layer.target}: diffusers/PEFT naming has no place for {what}; write it with --dialect kohya")
        prefix = self.spell(layer)[0]
        multiplier = adapter.multiplier * adapter.rank / _stored_alpha(adapter)
        tensors = {
            f"{prefix}.lora_A.weight": adapter.down,
            f"{prefix}.lora_B.weight": adapter.up * multiplier if multiplier != 1 else adapter.up,
        }
        if adapter.bias is not None:
            tensors[f"{prefix}.lora_B.bias"] = adapter.bias * (adapter.rank / _stored_alpha(adapter))
        return tensors

    def write_metadata(self, adapters: Mapping[Target, Adapter]) -> Mapping[str, str]:
        config: dict[str, Any] = {}
        for component in dict.fromkeys(target.component for target in adapters):
            own = {
                target.module: adapter
                for target, adapter in adapters.items()
                if target.component == component and isinstance(adapter, LoRA)
            }
            config |= {f"{component}.{key}": value for key, value in _peft_config(own).items()}
        return {CONFIG: json.dumps(config, indent=2, sort_keys=True), "format": "pt"}


def _stored_alpha(adapter: LoRA) -> float:
    """The alpha that goes into the config; what alpha/r does not say (`scale`, `scalar`) goes into the up factor."""
    return float(adapter.alpha) if adapter.alpha is not None and adapter.scale is None and float(adapter.alpha) else float(adapter.rank)


def _peft_config(adapters: Mapping[str, LoRA]) -> dict[str, Any]:
    ranks = {module: adapter.rank for module, adapter in adapters.items()}
    alphas = {module: _stored_alpha(adapter) for module, adapter in adapters.items()}
    rank, alpha = max(ranks.values(), key=list(ranks.values()).count), max(alphas.values(), key=list(alphas.values()).count)
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
        "target_modules": sorted(adapters),
        "use_rslora": False,
        "use_dora": False,
        "lora_bias": any(adapter.bias is not None for adapter in adapters.values()),
    }


def _config(metadata: Mapping[str, str], component: str) -> Mapping[str, Any]:
    text = metadata.get(CONFIG)
    if not text:
        return {}
    try:
        config = json.loads(text)
        return {key.removeprefix(f"{component}."): value for key, value in config.items() if key.startswith(f"{component}.")}
    except (ValueError, AttributeError, RecursionError) as error:
        raise UnknownFormat(f"{CONFIG} in the metadata is not the JSON object that PEFT writes: {error}") from error


def _alpha(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha as a kohya file would store it: rsLoRA's alpha/√r becomes alpha·√r over r."""
    patterns = config.get("alpha_pattern") or {}
    # PEFT matches a pattern against the end of the module's name (peft.utils.get_pattern_key).
    alpha = next((value for pattern, value in patterns.items() if module == pattern or module.endswith(f".{pattern}")), None)
    if alpha is None:
        alpha = config.get("lora_alpha", rank)
    try:
        return float(alpha) * (rank**0.5 if config.get("use_rslora") else 1.0)
    except (TypeError, ValueError) as error:
        raise UnknownFormat(f"{CONFIG}: alpha of {module} is {alpha!r}, expected a number") from error
