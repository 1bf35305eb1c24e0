"""The same network as other types, without loss or as near as a goal allows, and in another dtype. Without the base's weights."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter, LoRA
from loraloom.bases import Base, Layer, Target
from loraloom.combine.change import Module
from loraloom.combine.forms import form
from loraloom.combine.goal import Goal
from loraloom.combine.mixing import single
from loraloom.errors import NotSupported
from loraloom.lorafile import LoraFile

if TYPE_CHECKING:
    from torch import Tensor

    from loraloom.lazy import torch

_FLOATS = ("float16", "bfloat16", "float32", "float64")


def as_type(file: LoraFile, base: Base, goal: Goal) -> tuple[LoraFile, Mapping[Target, float]]:
    """Every adapter of `file` as the goal's type, and the error of each that lost something (relative, Frobenius).

    Norms and biases alone stay, and, where nothing may be lost, what is of the type already. Raises NotSupported for an adapter that has
    no such form, naming its module and why.
    """
    form(goal.type)
    found = {target: _made(adapter, base.by_target[target], goal) for target, adapter in file.adapters.items()}
    adapters = {target: module.adapter for target, module in found.items()}
    return replace(file, adapters=adapters), {target: module.error for target, module in found.items() if module.error}


def _made(adapter: Adapter, layer: Layer, goal: Goal) -> Module:
    if layer.kind == "norm" or (goal.exact and adapter.name == goal.type and not (isinstance(adapter, LoRA) and adapter.mid is not None)):
        return Module(layer.target, adapter, 0, 0, 0.0, 0.0)
    if adapter.reads_weight:
        raise NotSupported(
            f"{layer.target}: {adapter.name} cannot be written as {goal.type}: its change depends on the base's own weights, "
            "which are not in the file; `loraloom extract` reads them from the base"
        )
    return single(layer, adapter, goal)


def commonest_dtype(file: LoraFile) -> str:
    """The dtype of most of the values: "float16"."""
    found: Counter[str] = Counter()
    for adapter in file.adapters.values():
        for tensor in adapter.tensors().values():
            if tensor.ndim and tensor.is_floating_point():
                found[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    names = [name for name, _ in found.most_common() if name in _FLOATS]
    return "float32" if not names or names[0] == "float64" else names[0]


def rounding(tensors: "Mapping[str, Tensor]", dtype: "torch.dtype") -> tuple[str, float]:
    """The tensor that `dtype` changes the most, and by how much of its largest value; ("", 0) if every value stays as it is."""
    worst, by = "", 0.0
    for key, tensor in tensors.items():
        if tensor.ndim and tensor.is_floating_point() and tensor.numel() and (lost := _lost(tensor, dtype)) > by:
            worst, by = key, lost
    return worst, by


def _lost(tensor: "Tensor", dtype: "torch.dtype") -> float:
    values = tensor.double()
    largest = float(values.abs().max())
    return float((values - tensor.to(dtype).double()).abs().max()) / largest if largest and math.isfinite(largest) else 0.0
