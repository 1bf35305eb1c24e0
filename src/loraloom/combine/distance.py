"""How far one network is from another, module by module, without a full matrix where both have factors."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.bases import Base, Layer, Target
from loraloom.combine.parallel import in_order, low_rank
from loraloom.combine.spectrum import product_norm
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile

if TYPE_CHECKING:
    from torch import Tensor


def distances(made: LoraFile, expected: LoraFile, base: Base) -> Mapping[Target, float]:
    """‖delta − expected delta‖ / ‖expected delta‖ (Frobenius) of every module of `expected`. Neither may read the base's weights."""
    pairs = [(base.by_target[target], made.adapters[target], adapter) for target, adapter in expected.adapters.items()]
    found = in_order(lambda pair: _distance(*pair), pairs, lambda pair: low_rank(pair[0], pair[1:]))
    return dict(zip(expected.adapters, found, strict=True))


def _distance(layer: Layer, made: Adapter, expected: Adapter) -> float:
    own, other = _form(expected, layer.shape), _form(made, layer.shape)
    norm = _norm(*own)
    return _norm(*_less(other, own)) / norm if norm else 0.0


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
