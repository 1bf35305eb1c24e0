"""What a file and what it was made of do to an input: the same random columns through both, module by module.

A change may be near another as a matrix and differ where it is seen, so the error is told of outputs too. A mix is formed from its
networks as they were read, one after another: nothing is shared with how the file was made. No full matrix is formed where a type
has factors.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.basefile import BaseFile
from loraloom.bases import Base, Layer, Target
from loraloom.combine.change import Weighted, Weights, delta_of
from loraloom.combine.difference import changed
from loraloom.combine.mixing import parts_of
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile, Stack

if TYPE_CHECKING:
    from torch import Tensor

PROBES = 8  # columns
Added = Callable[[Layer, "Tensor"], "Tensor"]  # what is added to a layer's output for these columns, [out, PROBES]


def of_stack(stack: Stack, weights: Weights | None = None) -> Added:
    """What a mix adds. The function raises NotSupported as `combine` does."""
    return lambda layer, x: _added(layer, parts_of(stack, layer), x, weights)


def of_difference(before: BaseFile, after: BaseFile) -> Added:
    """What makes `after` of `before`."""

    def added(layer: Layer, x: "Tensor") -> "Tensor":
        adapter = changed(layer, before, after)
        return _added(layer, [(adapter, 1.0)] if adapter else [], x, None)

    return added


def probed(made: LoraFile, source: Added, base: Base) -> Mapping[Target, float]:
    """‖y' − y‖ / ‖y‖ of every module of `made`: y is what the source adds to the module's output, bias included, and y' what `made`
    adds, for seeded Gaussian inputs. 0 where the source adds nothing.
    """
    noise = cache(_noise)
    found = {}
    for target, adapter in made.adapters.items():
        layer = base.by_target[target]
        x = noise(layer.shape[0] if layer.kind in ("embedding", "norm") else math.prod(layer.shape[1:]))
        expected = source(layer, x)
        apart, norm = _added(layer, [(adapter, 1.0)], x, None) - expected, float(expected.norm())
        found[target] = float(apart.norm()) / norm if norm else 0.0
    return found


def _noise(width: int) -> "Tensor":
    return torch.randn(width, PROBES, generator=torch.Generator().manual_seed(0))


def _added(layer: Layer, parts: Weighted, x: "Tensor", weights: Weights | None) -> "Tensor":
    """[out, PROBES]: the sum of what the adapters at their strengths add to the layer's output for x."""
    total = torch.zeros(())
    for adapter, value in parts:
        total = total + value * _through(layer, adapter, x, weights)
        shift = adapter.bias_delta(torch.zeros(layer.shape[0]))
        if shift is not None:
            total = total + value * shift[:, None]
    return total


def _through(layer: Layer, adapter: Adapter, x: "Tensor", weights: Weights | None) -> "Tensor":
    """delta · x: for a norm each row by itself, for an embedding the sum of its rows that x weighs, for a convolution one patch."""
    if layer.kind == "norm":
        return delta_of(layer, adapter, weights)[:, None] * x
    pair = adapter.factors(layer.shape)
    if pair is None:
        change = delta_of(layer, adapter, weights).flatten(1)
        return (change.mT if layer.kind == "embedding" else change) @ x
    down, up = pair
    return down.mT @ (up.mT @ x) if layer.kind == "embedding" else up @ (down @ x)
