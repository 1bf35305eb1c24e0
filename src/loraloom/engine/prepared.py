"""Fixed room for networks beside every layer, made before `torch.compile`: attaching, swapping and strengths only write into it.

Dynamo does not see hooks that are added after compiling, and compiles anew where shapes change. Each layer gets one hook with
zeroed factors of `rank` ranks, which stays. An attach fills the first ranks; at strength 0 the room adds zeros.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.bases import Target
from loraloom.engine.branch import Weighted, low_rank
from loraloom.engine.live import after_calls, weight_of
from loraloom.engine.strengths import Strengths
from loraloom.errors import NotSupported
from loraloom.interrupts import uninterrupted
from loraloom.lazy import torch
from loraloom.undo import Undo

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class _Live:
    """The strengths of one component at one address: [1, ranks], or [rows, ranks] while pictures differ."""

    def __init__(self, size: int, like: "Tensor") -> None:
        self.strengths = torch.zeros(1, size, device=like.device, dtype=like.dtype)

    def write(self, live: "Tensor") -> None:
        values = live if live.ndim == 2 else live[None]
        if values.shape != self.strengths.shape:
            with torch.inference_mode(False):  # it is written to after that, too
                self.strengths = torch.zeros_like(values)
        self.strengths.copy_(values)

    def clear(self) -> None:
        with torch.inference_mode(False):
            self.strengths = torch.zeros_like(self.strengths[:1])


@dataclass(frozen=True)
class _Room:
    """Of one layer."""

    layer: "Module"
    down: "Tensor"  # [rank, in, *kernel]
    up: "Tensor"  # [out, rank]

    def fill(self, downs: "Sequence[Tensor]", ups: "Sequence[Tensor]") -> None:
        used = 0
        for down, up in zip(downs, ups, strict=True):
            self.down.view(len(self.down), -1)[used : used + len(down)].copy_(down)
            self.up[:, used : used + len(down)].copy_(up)
            used += len(down)

    @property
    def nbytes(self) -> int:
        return self.down.nbytes + self.up.nbytes

    def clear(self) -> None:
        self.down.zero_()
        self.up.zero_()


class Prepared:
    """The rooms of one pipeline. `rank` is what all networks of a mix may have together on a layer."""

    def __init__(self, modules: "Mapping[Target, Module]", rank: int, undo: Undo) -> None:
        self.rank, self._undo = rank, undo
        self.rooms: dict[str, dict[Target, _Room]] = {}
        self.live: dict[str, _Live] = {}
        by_component: dict[str, dict[Target, Module]] = {}
        for target, layer in modules.items():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and getattr(layer, "groups", 1) == 1:
                by_component.setdefault(target.component, {})[target] = layer
        for component, layers in by_component.items():
            self._prepare(component, layers)

    def _prepare(self, component: str, layers: "Mapping[Target, Module]") -> None:
        live = self.live[component] = _Live(len(layers) * self.rank, weight_of(next(iter(layers.values()))))
        rooms = self.rooms[component] = {}
        for index, (target, layer) in enumerate(layers.items()):
            weight = weight_of(layer)
            down = torch.zeros(self.rank, *weight.shape[1:], device=weight.device, dtype=weight.dtype)
            up = torch.zeros(len(weight), self.rank, device=weight.device, dtype=weight.dtype)
            room = rooms[target] = _Room(layer, down, up)
            after_calls(layer, _hook(room, live, slice(index * self.rank, (index + 1) * self.rank)), self._undo)

    def clear(self) -> None:
        """Nothing in the rooms, every strength 0."""
        for rooms in self.rooms.values():
            for room in rooms.values():
                room.clear()
        for live in self.live.values():
            live.clear()

    def release(self) -> None:
        """The hooks are gone."""
        uninterrupted(self._undo.run)


class Filled:
    """One attach in prepared rooms: what `Branches` is without them."""

    def __init__(self, prepared: Prepared, columns: int, undo: Undo) -> None:
        self._prepared, self._columns = prepared, columns
        undo.before(self._restore)
        self._given: dict[str, dict[Target, Sequence[Weighted]]] = {}
        self.strengths: dict[str, Strengths] = {}

    @property
    def nbytes(self) -> int:
        """Of the rooms in use; they are there before and after."""
        return sum(room.nbytes for component in self._given for room in self._prepared.rooms[component].values())

    def add(self, target: Target, layer: "Module", adapters: Sequence[Weighted]) -> None:
        self._given.setdefault(target.component, {})[target] = adapters

    def build(self) -> None:
        """Raises NotSupported before anything is written: for more ranks than there is room for, and for what is no product."""
        thin = {target: self._thin(target, adapters) for given in self._given.values() for target, adapters in given.items()}
        with torch.no_grad():
            for component, given in self._given.items():
                strengths = self.strengths[component] = Strengths(self._columns, self._prepared.live[component].write)
                for target, room in self._prepared.rooms[component].items():
                    factors = thin.get(target, [])
                    for item, (down, _, factor) in zip(given.get(target, ()), factors, strict=True):
                        strengths.reserve(item.slot, factor, len(down))
                    strengths.reserve(0, 0.0, self._prepared.rank - sum(len(down) for down, _, _ in factors))
                    room.fill([down for down, _, _ in factors], [up for _, up, _ in factors])
                strengths.build(room.down.device, room.down.dtype)

    def _restore(self) -> None:
        with torch.no_grad():
            self._prepared.clear()

    def _thin(self, target: Target, adapters: Sequence[Weighted]) -> "list[tuple[Tensor, Tensor, float]]":
        room, found = self._prepared.rooms.get(target.component, {}).get(target), []
        for item in adapters:
            factors = None if room is None else item.adapter.thin(tuple(weight_of(room.layer).shape))
            if factors is None or item.adapter.bias_delta(torch.zeros(len(factors[1]), dtype=torch.float32)) is not None:
                raise NotSupported(
                    f"{target}: prepared room holds products of low rank, and this {item.adapter.name} is more; "
                    'use mode="merge", or call release() and compile anew'
                )
            found.append(factors)
        ranks = sum(len(down) for down, _, _ in found)
        if ranks > self._prepared.rank:
            raise NotSupported(
                f"{target}: the networks have {ranks} ranks together, there is room for {self._prepared.rank}; call prepare(rank={ranks})"
            )
        return found


def _hook(room: _Room, live: _Live, where: slice) -> "Callable[[Module, tuple[Tensor, ...], Tensor], Tensor]":
    def hook(layer: "Module", inputs: "tuple[Tensor, ...]", y: "Tensor") -> "Tensor":
        return low_rank(layer, inputs[0], y, room.down, room.up, live.strengths[:, where])

    return hook
