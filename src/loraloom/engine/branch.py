"""Branch mode: y + Σ s·branch(x) beside the layer; the base weights are not touched.

All adapters of a layer that have factors become one down and one up: ten networks cost two thin products. Strengths live in
one flat tensor of the component (`strengths.py`), so that a change of strength, by step or by picture, moves no weights.
Where the ranks would cost more than the layer itself and nothing changes, their sum is one dense delta.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.adapters.like import like
from loraloom.bases import Target
from loraloom.engine.live import after_calls, cast_inside, weight_of
from loraloom.engine.strengths import Strengths
from loraloom.lazy import torch
from loraloom.undo import Undo

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class Weighted:
    """An adapter with the slot of its strength, and the strength itself where it never changes."""

    adapter: Adapter
    slot: int
    steady: float | None


@dataclass(frozen=True)
class _LowRank:
    """up(strengths · down(x))."""

    down: "Tensor"  # [R, in, *kernel]
    up: "Tensor"  # [out, R]
    where: slice

    def __call__(self, layer: "Module", x: "Tensor", y: "Tensor", total: "Tensor", strengths: Strengths) -> "Tensor":
        return low_rank(layer, x, total, self.down, self.up, strengths.part(self.where, x, layer))

    @property
    def nbytes(self) -> int:
        return self.down.nbytes + self.up.nbytes


def low_rank(layer: "Module", x: "Tensor", total: "Tensor", down: "Tensor", up: "Tensor", strengths: "Tensor") -> "Tensor":
    """total + up(strengths · down(x)); `strengths` [ranks] or [rows, ranks]. May write into `total`."""
    inner = _as(layer, x, down)
    inner = inner * _beside(strengths, inner, layer)
    up = up.to(x.device)
    if isinstance(layer, torch.nn.Conv2d):
        return total + torch.nn.functional.conv2d(inner, up[..., None, None]).to(total.dtype)
    if not torch.is_grad_enabled() and total.dtype == inner.dtype == up.dtype and total.is_contiguous():
        # One pass over the output instead of three: what a thin branch costs is mostly memory traffic.
        total.view(-1, total.shape[-1]).addmm_(inner.reshape(-1, inner.shape[-1]), up.t())
        return total
    return total + torch.nn.functional.linear(inner, up).to(total.dtype)


@dataclass(frozen=True)
class _Dense:
    """delta(x), where the ranks are many and the strengths steady."""

    delta: "Tensor"  # the weight's shape

    def __call__(self, layer: "Module", x: "Tensor", y: "Tensor", total: "Tensor", strengths: Strengths) -> "Tensor":
        return total + _as(layer, x, self.delta).to(y.dtype)

    @property
    def nbytes(self) -> int:
        return self.delta.nbytes


@dataclass(frozen=True)
class _Shift:
    """Σ s·bias. A layer without bias takes one all the same."""

    biases: "Tensor"  # [adapters, out]
    where: slice

    def __call__(self, layer: "Module", x: "Tensor", y: "Tensor", total: "Tensor", strengths: Strengths) -> "Tensor":
        shift = strengths.part(self.where, x, layer) @ self.biases.to(x.device)
        return total + _beside(shift, y, layer).to(y.dtype)

    @property
    def nbytes(self) -> int:
        return self.biases.nbytes


@dataclass(frozen=True)
class _Own:
    """The type's own branch, for types that need the weight or the output."""

    adapter: Adapter
    where: slice

    def __call__(self, layer: "Module", x: "Tensor", y: "Tensor", total: "Tensor", strengths: Strengths) -> "Tensor":
        strength = strengths.part(self.where, x, layer)
        return total + (_beside(strength, y, layer) * self.adapter.branch(layer, x, y)).to(y.dtype)

    @property
    def nbytes(self) -> int:
        return self.adapter.nbytes


Part = _LowRank | _Dense | _Shift | _Own


class Branches:
    """The forward hooks of one attach, and the strengths of each component that has any."""

    def __init__(self, columns: int, undo: Undo) -> None:
        self._columns, self._undo = columns, undo
        self._first: dict[str, Module] = {}
        self._nbytes = 0
        self.strengths: dict[str, Strengths] = {}

    @property
    def nbytes(self) -> int:
        return self._nbytes + sum(strengths.nbytes for strengths in self.strengths.values())

    def add(self, target: Target, layer: "Module", adapters: Sequence[Weighted]) -> None:
        """Compute the weighted adapters beside `layer` from now on."""
        strengths = self.strengths.setdefault(target.component, Strengths(self._columns))
        self._first.setdefault(target.component, layer)
        parts = _parts(layer, adapters, strengths)
        self._nbytes += sum(part.nbytes for part in parts)
        dtype = weight_of(layer).dtype

        def hook(module: "Module", inputs: "tuple[Tensor, ...]", y: "Tensor") -> "Tensor":
            if weight_of(module).dtype != dtype:
                raise cast_inside(dtype, weight_of(module).dtype)
            total = y
            for part in parts:
                total = part(module, inputs[0], y, total, strengths)
            return total

        after_calls(layer, hook, self._undo)

    def build(self) -> None:
        """All layers are added: make the strengths."""
        for component, strengths in self.strengths.items():
            weight = weight_of(self._first[component])
            strengths.build(weight.device, weight.dtype)


def _parts(layer: "Module", adapters: Sequence[Weighted], strengths: Strengths) -> list[Part]:
    """What the hook of one layer adds up, in the dtype of its weight. The types' own branches come first: they read
    the base's y, into which a thin branch writes."""
    own: list[Part] = []
    weight, multiplies = weight_of(layer), isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    downs, ups, ranks, shifts = [], [], [], []
    for item in adapters:
        thin = item.adapter.thin(tuple(weight.shape)) if multiplies else None
        if thin is None:
            bound = item.adapter.map(lambda tensor: tensor.to(weight.device)).bound(weight)
            own.append(_Own(bound, strengths.reserve(item.slot, 1.0, 1)))
            continue
        down, up, factor = thin
        downs.append(down)
        ups.append(up)
        ranks.append((item, factor, len(down)))
        if item.adapter.bias is not None:
            shifts.append((item, item.adapter.bias.float()))
    parts = own
    if ranks:
        parts.append(_low_rank(weight, downs, ups, ranks, strengths))
    if shifts:
        where = [strengths.reserve(item.slot, 1.0, 1) for item, _ in shifts]
        biases = torch.stack([shift for _, shift in shifts]).to(weight.device, weight.dtype)
        parts.append(_Shift(biases, slice(where[0].start, where[-1].stop)))
    return parts


def _low_rank(
    weight: "Tensor", downs: "list[Tensor]", ups: "list[Tensor]", ranks: Sequence[tuple[Weighted, float, int]], strengths: Strengths
) -> Part:
    total = sum(count for _, _, count in ranks)
    if all(item.steady is not None for item, _, _ in ranks) and total * (weight[0].numel() + len(weight)) >= weight.numel():
        scale = torch.cat([torch.full((count,), (item.steady or 0.0) * factor, dtype=torch.float32) for item, factor, count in ranks]).to(
            weight.device
        )
        down, up = (torch.cat([part.to(weight.device).float() for part in thin], dim) for thin, dim in ((downs, 0), (ups, 1)))
        return _Dense((up * scale @ down).reshape(weight.shape).to(weight.dtype))
    where = [strengths.reserve(item.slot, factor, count) for item, factor, count in ranks]
    # One network: the file's own tensors, no copy where the dtype is the same.
    down, up = (_cast(_joined(thin, dim), weight) for thin, dim in ((downs, 0), (ups, 1)))
    return _LowRank(down.reshape(-1, *weight.shape[1:]), up, slice(where[0].start, where[-1].stop))


def _joined(tensors: "list[Tensor]", dim: int) -> "Tensor":
    return tensors[0] if len(tensors) == 1 else torch.cat([tensor.float() for tensor in tensors], dim)


def _cast(tensor: "Tensor", weight: "Tensor") -> "Tensor":
    """In the dtype and on the device of `weight`. From one half precision to the other torch takes three times as long as by way of
    float32 (2.13, CPU), which gives the same bits; most files are float16, and SDXL runs in bfloat16."""
    if tensor.dtype != weight.dtype and tensor.dtype.itemsize == weight.dtype.itemsize == 2:
        tensor = tensor.float()
    return tensor.to(weight.device, weight.dtype)


def _as(layer: "Module", x: "Tensor", weight: "Tensor") -> "Tensor":
    """What `layer` would give with another weight, wherever offloading has put the layer now."""
    return like(layer, x, weight.to(x.device))


def _beside(values: "Tensor", y: "Tensor", layer: "Module") -> "Tensor":
    """[n] or [rows, n] in the place of y's channels: [rows, ..., n] after a Linear, [rows, n, h, w] after a convolution."""
    values = values.to(y.device)
    if isinstance(layer, torch.nn.Conv2d):
        return values[..., None, None]
    return values if values.ndim == 1 else values.reshape(len(values), *(1,) * (y.ndim - 2), -1)
