"""Layers whose weight cannot be merged into: what is written there is computed anew at the next call, or belongs to others too."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from loraloom.bases import Target
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch.nn import Module, Parameter


def unmergeable(
    targets: Iterable[Target], modules: "Mapping[Target, Module]", named: "Mapping[str, Mapping[str, Module]]"
) -> dict[Target, str]:
    """By target the reason, as a whole sentence. `named` has all modules of the pipeline."""
    owners = _owners(named)
    found = {target: _why(target, modules[target], owners) for target in targets}
    return {target: reason for target, reason in found.items() if reason}


def _why(target: Target, layer: "Module", owners: "Mapping[int, list[tuple[str, Module]]]") -> str | None:
    if _computed(layer, "weight") or _computed(layer, "bias"):
        return (
            f"{target}: its weight is computed at each call (weight_norm, another parametrization or pruning), so nothing can be merged "
            'into it; use mode="branch", or make the weight permanent first'
        )
    held = [parameter for parameter in layer._parameters.values() if parameter is not None and parameter.numel()]
    other = next((name for parameter in held for name, module in owners[_place(parameter)] if module is not layer), None)
    if other is not None:
        return f'{target}: its weight is tied to that of {other}, so a merge would change both; use mode="branch"'
    return None


def _computed(layer: "Module", name: str) -> bool:
    """Whether the layer has such a tensor, and not as a Parameter of its own."""
    return name not in layer._parameters and isinstance(getattr(layer, name, None), torch.Tensor)


def _owners(named: "Mapping[str, Mapping[str, Module]]") -> "dict[int, list[tuple[str, Module]]]":
    """The modules that hold what begins at an address."""
    found: dict[int, list[tuple[str, Module]]] = {}
    for component, modules in named.items():
        for path, module in modules.items():
            for parameter in module._parameters.values():
                if parameter is not None and parameter.numel():
                    found.setdefault(_place(parameter), []).append((f"{component}.{path}", module))
    return found


def _place(parameter: "Parameter") -> int:
    """Two Parameters may share their numbers, and on the meta device nothing has an address."""
    return id(parameter) if parameter.is_meta else parameter.data_ptr()
