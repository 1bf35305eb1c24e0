"""Where the tensors of a file will stand once diffusers has loaded it, and why the rest stands nowhere."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.bases import Target
from loraloom.engine.live import weight_of
from loraloom.errors import BadTensor, NotSupported, ShapeMismatch
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_SUFFIXES = ("lora_A.weight", "lora_B.weight", "lora_B.bias")


@dataclass(frozen=True)
class Landing:
    """`modules` get the tensors, by PEFT's suffix; `missing` are tensors that no module takes, each with the reason."""

    modules: "Mapping[Target, Mapping[str, Tensor]]"
    missing: "tuple[tuple[Tensor, str], ...]"


def plan_landing(file: str, named: "Mapping[str, Mapping[str, Tensor]]", parts: "Mapping[str, Module]") -> Landing:
    """`named` are a file's tensors by component and by the name that PEFT will look for.

    Raises BadTensor for half an adapter, ShapeMismatch where a module has another shape, NotSupported for quantised layers:
    diffusers would fill the other half with random numbers, or make the module larger.
    """
    landed: dict[Target, Mapping[str, Tensor]] = {}
    missing = []
    for component, tensors in named.items():
        groups: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for key, tensor in tensors.items():
            module, _, rest = key.rpartition(".lora_")
            groups[module][f"lora_{rest}"] = tensor
        # A module that an earlier network stands on is PEFT's wrapper of it.
        live = {path: getattr(module, "base_layer", module) for path, module in parts[component].named_modules()}
        for module, group in groups.items():
            target = Target(component, module)
            reason = _misfit(target, group, live.get(module))
            if reason:
                missing += [(tensor, reason) for tensor in group.values()]
            else:
                _check_shapes(file, target, group, live[module])
                landed[target] = group
    return Landing(landed, tuple(missing))


def _misfit(target: Target, group: "Mapping[str, Tensor]", module: "Module | None") -> str | None:
    strange = next((suffix for suffix in group if suffix not in _SUFFIXES), None)
    if strange is not None:
        return f"PEFT reads no {strange[:60]}"
    if module is None:
        return f"this pipeline has no {str(target)[:200]}"
    if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
        return f"{target} is a {type(module).__name__}, which takes no LoRA"
    return None


def _check_shapes(file: str, target: Target, group: "Mapping[str, Tensor]", module: "Module") -> None:
    absent = [suffix for suffix in _SUFFIXES[:2] if suffix not in group]
    if absent:
        raise BadTensor(f"{file}: {target} has no {absent[0]}; the file is incomplete, download it again")
    weight, down, up = weight_of(module), group["lora_A.weight"], group["lora_B.weight"]
    if not weight.is_floating_point():
        raise NotSupported(f"{target} is stored as {weight.dtype}; quantised layers take no networks yet")
    if getattr(module, "groups", 1) != 1:
        raise NotSupported(f"{target} is a convolution of {module.groups} groups, which takes no LoRA")
    given, whole = [len(up), *down.shape[1:]], list(weight.shape)
    if given != whole or up.ndim != down.ndim or up.shape[1] != len(down):
        raise ShapeMismatch(
            f"{file}: {target}: the file gives {given} from {list(up.shape)} and {list(down.shape)}, the module has {whole}; use it with "
            "the base it was made for"
        )


def unused(keys: Iterable[str], used: frozenset[str], reasons: Mapping[str, str]) -> tuple[str, ...]:
    """`key: reason` for each key that is not used. An alpha is used with the tensors beside it, whose scale it is."""
    beside = {key.rpartition(".lora_")[0] for key in used}
    left = [key for key in keys if key not in used and not (key.endswith(".alpha") and key.removesuffix(".alpha") in beside)]
    return tuple(f"{key}: {reasons.get(key, 'diffusers loads nothing of this name into this pipeline')}" for key in left)
