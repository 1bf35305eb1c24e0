"""Branch mode: y + Σ s·branch(x) beside the layer; the base weights are not touched.

All adapters of a layer that have factors are stacked into one down and one up: ten networks cost two thin products, and
a strength is a slice of one vector over the ranks. Stacking pays while Σr·(in + out) < in·out; the others run one by one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loraloom.adapters import Adapter
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.utils.hooks import RemovableHandle

Weighted = Sequence[tuple[Adapter, float]]


@dataclass(frozen=True)
class _Stacked:
    """Several low-rank adapters of one layer as one."""

    down: "Tensor"  # [R, in] or, for a convolution, [R, in, *kernel]
    up: "Tensor"  # [out, R] or [out, R, 1, 1]
    strengths: "Tensor"  # [R], one per rank

    @classmethod
    def of(cls, layer: "Module", adapters: Weighted) -> "_Stacked | None":
        weight: Tensor = layer.weight  # type: ignore[assignment]
        pairs = [adapter.factors(tuple(weight.shape)) for adapter, _ in adapters]
        if any(pair is None for pair in pairs):
            return None
        exact = [pair for pair in pairs if pair is not None]
        ranks = [len(down) for down, _ in exact]
        if sum(ranks) * (weight[0].numel() + len(weight)) >= weight.numel() and len(adapters) > 1:
            return None
        down = torch.cat([down for down, _ in exact]).to(weight.device, weight.dtype).reshape(-1, *weight.shape[1:])
        up = torch.cat([up for _, up in exact], dim=1).to(weight.device, weight.dtype)
        strengths = torch.cat([torch.full((rank,), strength) for rank, (_, strength) in zip(ranks, adapters, strict=True)])
        return cls(down, up[:, :, None, None] if weight.ndim == 4 else up, strengths.to(weight.device, weight.dtype))

    def __call__(self, layer: "Module", x: "Tensor") -> "Tensor":
        if isinstance(layer, torch.nn.Conv2d):
            inner = torch.nn.functional.conv2d(x, self.down, None, layer.stride, layer.padding, layer.dilation)
            return torch.nn.functional.conv2d(inner * self.strengths[:, None, None], self.up)
        return torch.nn.functional.linear(torch.nn.functional.linear(x, self.down) * self.strengths, self.up)

    @property
    def nbytes(self) -> int:
        return self.down.nbytes + self.up.nbytes


class Branches:
    """The forward hooks of one attach."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self.nbytes = 0

    def add(self, layer: "Module", adapters: Weighted) -> None:
        """Compute the weighted adapters beside `layer` from now on."""
        weight: Tensor = layer.weight  # type: ignore[assignment]
        stacked = _Stacked.of(layer, adapters)
        bias = _bias(layer, adapters) if stacked else None
        single = [] if stacked else [(adapter.map(lambda t: t.to(weight.device)), strength) for adapter, strength in adapters]
        self.nbytes += stacked.nbytes if stacked else sum(adapter.nbytes for adapter, _ in single)

        def hook(module: "Module", inputs: tuple[Any, ...], output: "Tensor") -> "Tensor":
            x = inputs[0]
            if stacked is None:
                return output + sum(strength * adapter.branch(module, x, output) for adapter, strength in single)
            added = stacked(module, x)
            return output + (added if bias is None else added + bias)

        self._handles.append(layer.register_forward_hook(hook))

    def restore(self) -> None:
        while self._handles:
            self._handles.pop().remove()


def _bias(layer: "Module", adapters: Weighted) -> "Tensor | None":
    """Σ s·bias_delta, shaped to be added to the layer's output. A layer without bias takes one all the same."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    zero = torch.zeros(len(weight), device=weight.device)
    shifts = [strength * shift for adapter, strength in adapters if (shift := adapter.bias_delta(zero)) is not None]
    if not shifts:
        return None
    total = torch.stack(shifts).sum(0).to(weight.dtype)
    return total.reshape(-1, *[1] * (weight.ndim - 2)) if math.prod(weight.shape[2:]) and weight.ndim > 2 else total
