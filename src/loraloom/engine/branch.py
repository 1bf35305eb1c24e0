"""Branch mode: y + Σ s·branch(x) beside the layer; the base weights are not touched.

All adapters of a layer that have factors become one down and one up: ten networks cost two thin products, and a strength
is a slice of one vector over the ranks. Where Σr·(in + out) is not below in·out their sum is one dense delta.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.engine.live import cast_inside, weight_of
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.utils.hooks import RemovableHandle

Weighted = Sequence[tuple[Adapter, float]]
Factored = Sequence[tuple["Tensor", "Tensor", float]]  # down [r, in·kernel], up [out, r], strength


@dataclass(frozen=True)
class _LowRank:
    """up(strengths · down(x))."""

    down: "Tensor"  # [R, in, *kernel]
    up: "Tensor"  # [out, R] or [out, R, 1, 1]
    strengths: "Tensor"  # [R] or [R, 1, 1], one number per rank
    bias: "Tensor | None"  # [out]

    def __call__(self, layer: "Module", x: "Tensor") -> "Tensor":
        inner = _as(layer, x, self.down, None) * self.strengths.to(x.device)
        up, bias = self.up.to(x.device), None if self.bias is None else self.bias.to(x.device)
        if isinstance(layer, torch.nn.Conv2d):
            return torch.nn.functional.conv2d(inner, up, bias)
        return torch.nn.functional.linear(inner, up, bias)

    @property
    def nbytes(self) -> int:
        return self.down.nbytes + self.up.nbytes


@dataclass(frozen=True)
class _Dense:
    """delta(x), where the ranks are many."""

    delta: "Tensor"  # the weight's shape
    bias: "Tensor | None"  # [out]

    def __call__(self, layer: "Module", x: "Tensor") -> "Tensor":
        return _as(layer, x, self.delta, self.bias)

    @property
    def nbytes(self) -> int:
        return self.delta.nbytes


def _sum(weight: "Tensor", factored: Factored, bias: "Tensor | None") -> _LowRank | _Dense:
    """All adapters with factors as one, in the dtype of `weight`."""
    points = [1] * (weight.ndim - 2)
    down = torch.cat([down for down, _, _ in factored])
    up = torch.cat([up for _, up, _ in factored], dim=1)
    strengths = torch.cat([torch.full((len(down),), strength, device=weight.device) for down, _, strength in factored])
    if len(down) * (weight[0].numel() + len(weight)) >= weight.numel():
        return _Dense((up * strengths @ down).reshape(weight.shape).to(weight.dtype), bias)
    return _LowRank(
        down.reshape(-1, *weight.shape[1:]).to(weight.dtype),
        up.reshape(*up.shape, *points).to(weight.dtype),
        strengths.reshape(-1, *points).to(weight.dtype),
        bias,
    )


def _as(layer: "Module", x: "Tensor", weight: "Tensor", bias: "Tensor | None") -> "Tensor":
    """What `layer` would give with another weight: its own stride, padding, padding mode and dilation."""
    weight, bias = weight.to(x.device), None if bias is None else bias.to(x.device)  # where offloading has put the layer now
    if isinstance(layer, torch.nn.Conv2d):
        convolved: Tensor = layer._conv_forward(x, weight, bias)
        return convolved
    return torch.nn.functional.linear(x, weight, bias)


class Branches:
    """The forward hooks of one attach."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self.nbytes = 0

    def add(self, layer: "Module", adapters: Weighted) -> None:
        """Compute the weighted adapters beside `layer` from now on."""
        weight = weight_of(layer)
        factored, low, own = [], [], []
        for adapter, strength in adapters:
            pair = adapter.factors(tuple(weight.shape))
            if pair is None:
                own.append((adapter.map(lambda tensor: tensor.to(weight.device)), strength))
            else:
                factored.append((pair[0].to(weight.device), pair[1].to(weight.device), strength))
                low.append((adapter, strength))
        stacked = _sum(weight, factored, _bias(weight, low)) if factored else None
        self.nbytes += sum(adapter.nbytes for adapter, _ in own) + (stacked.nbytes if stacked else 0)
        dtype = weight.dtype

        def hook(module: "Module", inputs: "tuple[Tensor, ...]", y: "Tensor") -> "Tensor":
            if weight_of(module).dtype != dtype:
                raise cast_inside(dtype, weight_of(module).dtype)
            x = inputs[0]
            added = [] if stacked is None else [stacked(module, x)]
            added += [strength * adapter.branch(module, x, y) for adapter, strength in own]
            return y + sum(added[1:], start=added[0]).to(y.dtype)  # autocast: a branch may be wider than the layer's output

        self._handles.append(layer.register_forward_hook(hook))

    def restore(self) -> None:
        while self._handles:
            self._handles.pop().remove()


def _bias(weight: "Tensor", adapters: Weighted) -> "Tensor | None":
    """Σ s·bias_delta, [out]. A layer without bias takes one all the same."""
    zero = torch.zeros(len(weight), device=weight.device)
    shifts = [strength * shift for adapter, strength in adapters if (shift := adapter.bias_delta(zero)) is not None]
    return torch.stack(shifts).sum(0).to(weight.dtype) if shifts else None
