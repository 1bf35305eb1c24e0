"""The three ways of an adapter beside one expected output: its branch, its branch bound to the weight, its delta merged."""

import copy

import torch
from support import close
from torch import Tensor, nn

from loraloom.adapters import Adapter


def merged(ours: Adapter, module: nn.Module, strength: float = 1.0) -> nn.Module:
    """A float32 copy of the layer with the adapter in its weight and bias."""
    wide = copy.deepcopy(module).float()
    with torch.no_grad():
        wide.weight += strength * ours.delta(module.weight)
        bias = ours.bias_delta(torch.zeros(len(wide.weight)))
        if bias is not None:
            wide.bias = nn.Parameter(strength * bias + (0 if wide.bias is None else wide.bias))
    return wide


def agree(ours: Adapter, module: nn.Module, x: Tensor, expected: Tensor) -> bool:
    """All three within 1e-5 of the largest output, float32."""
    with torch.no_grad():
        y = module(x)
        found = (y + ours.branch(module, x, y), y + ours.bound(module.weight).branch(module, x, y), merged(ours, module)(x))
        return all(close(each, expected) for each in found)


def rounded(ours: Adapter, module: nn.Module, x: Tensor, dtype: torch.dtype) -> bool:
    """Adapter, layer and input in `dtype`: both branches within 2 % (bfloat16, 8 bits) or 0.5 % (float16, 11 bits) of float32."""
    ours = ours.map(lambda tensor: tensor.to(dtype) if tensor.ndim else tensor)
    module, x = copy.deepcopy(module).to(dtype), x.to(dtype)
    with torch.no_grad():
        y, expected = module(x), merged(ours, module)(x.float())
        found = (y + ours.branch(module, x, y), y + ours.bound(module.weight).branch(module, x, y))
        tolerance = 0.02 if dtype == torch.bfloat16 else 0.005
        return all(each.dtype == dtype and close(each.float(), expected, tolerance) for each in found)
