"""diffusers/PEFT in one file: `unet.<module>.lora_A.weight`, alpha in the metadata or nowhere.

PEFT keeps alpha in its config, not in tensors. diffusers stores the config as JSON under `lora_adapter_metadata`, keys
prefixed by the component; a file without it means alpha = r (diffusers, `lora_base.py`).
"""

import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from loraloom.adapters import Adapter, LoRA
from loraloom.bases import Base, Layer, Target
from loraloom.dialects.base import Dialect
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.errors import DialectCannotHold, LimitExceeded, UnknownFormat
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

MAX_PATTERNS = 2000  # the largest UNet has 794 modules


class _Config(msgspec.Struct):
    """What the scales of a component's adapters depend on."""

    lora_alpha: float | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool = False

    def alpha(self, module: str, rank: int) -> float:
        """alpha as a kohya file would store it: rsLoRA's alpha/√r becomes alpha·√r over r."""
        alpha = rank if self.lora_alpha is None else self.lora_alpha
        if self.alpha_pattern:
            # PEFT takes the first pattern that means the module: its end, or with `^` all of it (peft.utils.get_pattern_key).
            parts = module.split(".")
            ends = [".".join(parts[start:]) for start in range(len(parts))] + [f"^{module}", f"^{module.removeprefix('text_model.')}"]
            alpha = next((value for name, value in self.alpha_pattern.items() if name in ends), alpha)
        return alpha * (rank**0.5 if self.use_rslora else 1.0)


class Peft(Dialect):
    name: ClassVar[str] = "peft"
    title: ClassVar[str] = "diffusers/PEFT"
    suffixes: ClassVar[Mapping[str, str]] = {
        "lora_A.weight": "lora_down.weight",
        "lora_B.weight": "lora_up.weight",
        "lora_B.bias": "diff_b",
        "lora_A.default.weight": "lora_down.weight",
        "lora_B.default.weight": "lora_up.weight",
        "lora_B.default.bias": "diff_b",
        "lora.down.weight": "lora_down.weight",
        "lora.up.weight": "lora_up.weight",
        "lora_linear_layer.down.weight": "lora_down.weight",
        "lora_linear_layer.up.weight": "lora_up.weight",
    }

    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        component, module = layer.target.component, layer.target.module
        # transformers 5 dropped `text_model.` from CLIPTextModel; files written with it lack the part.
        short = module.removeprefix("text_model.")
        return tuple(dict.fromkeys((f"{component}.{module}", f"{component}.{short}")))

    def fix(
        self, group: "dict[str, Tensor]", spelled: Mapping[str, str], target: Target, metadata: Mapping[str, str]
    ) -> "dict[str, Tensor]":
        rank = len(group["lora_down.weight"])
        if "alpha" not in group:
            group["alpha"] = torch.tensor(_config(metadata.get(PEFT_CONFIG, "{}"), target.component).alpha(target.module, rank))
        if spelled.get("diff_b", "").endswith("bias"):  # PEFT scales its bias as it scales the product
            group["diff_b"] = group["diff_b"] * (float(group["alpha"]) / rank)
        return group

    def write_tensors(self, adapter: Adapter, layer: Layer, base: Base) -> "dict[str, Tensor]":
        if not isinstance(adapter, LoRA) or adapter.mid is not None:
            what = "a Tucker core" if isinstance(adapter, LoRA) else f"the type {adapter.name}"
            raise DialectCannotHold(f"{layer.target}: diffusers/PEFT naming has no place for {what}; write it with --dialect kohya")
        prefix, config_scale = self.spell(layer, base)[0], _config_alpha(adapter) / adapter.rank
        folded = adapter.multiplier / config_scale
        tensors = {
            f"{prefix}.lora_A.weight": adapter.down,
            f"{prefix}.lora_B.weight": adapter.up if _says_all(adapter) else adapter.up.float() * folded,
        }
        if adapter.bias is not None:
            tensors[f"{prefix}.lora_B.bias"] = adapter.bias.float() / config_scale
        return tensors

    def write_metadata(self, adapters: Mapping[Target, Adapter]) -> Mapping[str, str]:
        config: dict[str, Any] = {}
        for component in dict.fromkeys(target.component for target in adapters):
            loras = {
                target.module: adapter
                for target, adapter in adapters.items()
                if target.component == component and isinstance(adapter, LoRA)
            }
            config |= {f"{component}.{key}": value for key, value in _peft_config(loras).items()}
        return {PEFT_CONFIG: json.dumps(config, indent=2, sort_keys=True), "format": "pt"}


def _says_all(adapter: LoRA) -> bool:
    """Whether PEFT's alpha and r say the whole scale; `scale` and `scalar` have no place there and go into the up factor."""
    return bool(adapter.scale is None and adapter.scalar is None and (adapter.alpha is None or adapter.alpha != 0))


def _config_alpha(adapter: LoRA) -> float:
    return float(adapter.alpha) if adapter.alpha is not None and _says_all(adapter) else float(adapter.rank)


def _peft_config(adapters: Mapping[str, LoRA]) -> dict[str, Any]:
    # PEFT looks for the ends of names, so the shorter spelling means the module under transformers 4 and 5 alike.
    named = {module.removeprefix("text_model."): adapter for module, adapter in adapters.items()}
    ranks = {module: adapter.rank for module, adapter in named.items()}
    alphas = {module: _config_alpha(adapter) for module, adapter in named.items()}
    ((rank, _),) = Counter(ranks.values()).most_common(1)
    ((alpha, _),) = Counter(alphas.values()).most_common(1)
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
        "target_modules": sorted(named),
        "use_rslora": False,
        "use_dora": False,
        "lora_bias": any(adapter.bias is not None for adapter in adapters.values()),
    }


@lru_cache(maxsize=8)  # asked for once for every target of a file
def _config(text: str, component: str) -> _Config:
    prefix = f"{component}."
    try:
        config = msgspec.json.decode(text, type=dict[str, Any])
        own = msgspec.convert({key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}, _Config)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise UnknownFormat(f"{PEFT_CONFIG} in the metadata is not what PEFT writes ({error})") from error
    patterns = own.alpha_pattern or {}
    if len(patterns) > MAX_PATTERNS:
        raise LimitExceeded(f"{PEFT_CONFIG}: {len(patterns):,} patterns, the limit is {MAX_PATTERNS:,}")
    return msgspec.structs.replace(own, alpha_pattern={_plain(pattern): value for pattern, value in patterns.items()})


def _plain(pattern: str) -> str:
    """The pattern as a name. PEFT takes any regular expression, but one from a stranger can run for hours: names only."""
    name = pattern.removesuffix("$").replace("\\.", ".")
    if not name.removeprefix("^").replace(".", "").replace("_", "").isalnum():
        raise UnknownFormat(f"alpha_pattern {pattern[:80]!r} is a regular expression; only names of modules are read, write them out")
    return name
