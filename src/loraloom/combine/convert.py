"""The same network as other types: only where nothing is lost and the base's weights are not needed."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from loraloom.adapters import MAX_RANK, Adapter, Full, LoRA
from loraloom.bases import Base, Layer
from loraloom.errors import NotSupported, suggestion
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile

if TYPE_CHECKING:
    from torch import Tensor

_FLOATS = ("float16", "bfloat16", "float32", "float64")


def as_type(file: LoraFile, base: Base, kind: str) -> LoraFile:
    """Every adapter of `file` as `kind`: "lora" by its exact factors, "full" by its delta. Norms and what is of the type already stay.

    Raises NotSupported for an adapter that has no such form, naming its module and why; nothing is approximated.
    """
    if kind not in TYPES:
        known = ", ".join(TYPES)
        raise NotSupported(f"nothing is converted to the type {kind!r}{suggestion(kind, TYPES)}; there are {known}")
    make = TYPES[kind]
    adapters = {target: make(adapter, base.by_target[target]) for target, adapter in file.adapters.items()}
    return replace(file, adapters=adapters)


def _lora(adapter: Adapter, layer: Layer) -> Adapter:
    if (isinstance(adapter, LoRA) and adapter.mid is None) or layer.kind == "norm":
        return adapter
    pair = adapter.factors(layer.shape)
    if pair is None:
        if isinstance(adapter, Full) and adapter.diff is None:
            return adapter  # a bias alone
        why = _needs_weight(adapter) or "its change is not of low rank; a LoRA that comes close is made by resizing, with a loss"
        raise NotSupported(f"{layer.target}: {adapter.name} cannot be written as lora without loss: {why}")
    down, up = pair
    if len(down) > MAX_RANK:
        raise NotSupported(f"{layer.target}: {adapter.name} has rank {len(down):,} as a lora, the limit is {MAX_RANK:,}")
    kernel = layer.shape[2:]
    return LoRA(
        down=down.reshape(len(down), layer.shape[1], *kernel).contiguous(),
        up=up.reshape(layer.shape[0], len(down), *[1] * len(kernel)).contiguous(),
        alpha=torch.tensor(float(len(down))),
        bias=adapter.bias,
    )


def _full(adapter: Adapter, layer: Layer) -> Adapter:
    if isinstance(adapter, Full) or layer.kind == "norm":
        return adapter
    if why := _needs_weight(adapter):
        raise NotSupported(f"{layer.target}: {adapter.name} cannot be written as full: {why}")
    return Full(diff=adapter.delta(torch.zeros(layer.shape)).contiguous(), bias=adapter.bias)


def _needs_weight(adapter: Adapter) -> str:
    return "its change depends on the base's own weights, which are not in the file" if adapter.reads_weight else ""


TYPES: Mapping[str, Callable[[Adapter, Layer], Adapter]] = {"lora": _lora, "full": _full}


def commonest_dtype(file: LoraFile) -> str:
    """The dtype of most of the values: "float16"."""
    found: Counter[str] = Counter()
    for adapter in file.adapters.values():
        for tensor in adapter.tensors().values():
            if tensor.ndim and tensor.is_floating_point():
                found[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    names = [name for name, _ in found.most_common() if name in _FLOATS]
    return "float32" if not names or names[0] == "float64" else names[0]


def rounding(file: LoraFile, dtype: "torch.dtype") -> tuple[str, float]:
    """The tensor that `dtype` changes the most, and by how much of its largest value; ("", 0) if every value stays as it is."""
    worst, by = "", 0.0
    for target, adapter in file.adapters.items():
        for suffix, tensor in adapter.tensors().items():
            if tensor.ndim and tensor.is_floating_point() and tensor.numel() and (lost := _lost(tensor, dtype)) > by:
                worst, by = f"{target} {suffix}", lost
    return worst, by


def _lost(tensor: "Tensor", dtype: "torch.dtype") -> float:
    values = tensor.double()
    largest = float(values.abs().max())
    return float((values - tensor.to(dtype).double()).abs().max()) / largest if largest and math.isfinite(largest) else 0.0
