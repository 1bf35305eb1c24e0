"""How far one network is from another, module by module, without a full matrix where both have factors."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.combine.spectrum import product_norm
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile

if TYPE_CHECKING:
    from torch import Tensor


def distances(made: LoraFile, expected: LoraFile, base: Base) -> Mapping[Target, float]:
    """‖delta − expected delta‖ / ‖expected delta‖ (Frobenius) of every module of `expected`. Neither may read the base's weights."""
    found = {}
    for target, adapter in expected.adapters.items():
        shape = base.by_target[target].shape
        own, other = _form(adapter, shape), _form(made.adapters[target], shape)
        norm = _norm(*own)
        found[target] = _norm(*_less(other, own)) / norm if norm else 0.0
    return found


Form = tuple["Tensor", "Tensor", "Tensor | None"]  # down, up, and what has no factors


def _form(adapter: Adapter, shape: tuple[int, ...]) -> Form:
    pair = adapter.factors(shape) if len(shape) > 1 else None
    if pair is not None and 2 * len(pair[0]) <= min(len(pair[1]), pair[0].shape[1]):  # else the matrix is smaller than two networks' ranks
        return (*pair, None)
    empty = torch.zeros(0, math.prod(shape[1:])), torch.zeros(shape[0], 0)
    return (*empty, adapter.delta(torch.zeros(shape)).flatten(1) if len(shape) > 1 else adapter.delta(torch.zeros(shape))[:, None])


def _less(one: Form, other: Form) -> Form:
    down, up = torch.cat([one[0], other[0]]), torch.cat([one[1], -other[1]], dim=1)
    wholes = [whole for whole in (one[2], None if other[2] is None else -other[2]) if whole is not None]
    return down, up, torch.stack(wholes).sum(0) if wholes else None


def _norm(down: "Tensor", up: "Tensor", whole: "Tensor | None") -> float:
    if whole is not None:
        return float((whole.double() + up.double() @ down.double()).norm())
    return product_norm(down, up)
