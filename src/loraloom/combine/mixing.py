"""A stack of networks as one: for each module the weighted sum of its changes, made into what the goal asks for.

The sum is formed from the types' own factors, never from full matrices where that can be avoided. What depends on the base's
weights needs them; a type without factors becomes a whole change (exact) or is factored from it (of a rank).
"""

from collections.abc import Iterable, Iterator

from loraloom.adapters import Adapter, Full, Norm
from loraloom.bases import Base, Layer
from loraloom.combine.change import Change, Module, Weighted, Weights
from loraloom.combine.forms import form
from loraloom.combine.goal import Goal
from loraloom.combine.parallel import in_order, low_rank
from loraloom.errors import NotSupported
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile, Stack
from loraloom.strength import Strength


def modules(stack: Stack, base: Base, goal: Goal, weights: Weights | None, components: Iterable[str] | None = None) -> Iterator[Module]:
    """The modules of the mix in the base's order, one at a time; those that come to nothing are left out.

    Raises NotSupported for strengths that change by step, and, naming the module, for a type that needs the base where `weights` is
    None and for what cannot be of the goal's type.
    """
    wanted = frozenset(base.components if components is None else components)

    def work(item: tuple[Layer, Weighted]) -> tuple[Layer, Module]:
        layer, parts = item
        return layer, _module(layer, parts, goal, weights)

    def light(item: tuple[Layer, Weighted]) -> bool:
        layer, parts = item
        return not goal.exact and low_rank(layer, [adapter for adapter, _ in parts])  # exact: copies alone, which wait for memory

    summands = ((layer, parts_of(stack, layer)) for layer in base.layers if layer.target.component in wanted)
    for layer, module in in_order(work, ((layer, parts) for layer, parts in summands if parts), light):
        if goal.exact or module.norm or module.adapter.bias is not None or layer.kind == "norm":
            yield module


def parts_of(stack: Stack, layer: Layer) -> Weighted:
    """The adapters of this layer with their strengths, those at 0 left out; raises NotSupported for strengths that change by step."""
    return [
        (_cut(file.adapters[layer.target], strength), value)
        for file, strength in stack
        if layer.target in file.adapters and (value := _steady(file, strength, layer))
    ]


def single(layer: Layer, adapter: Adapter, goal: Goal, weights: Weights | None = None) -> Module:
    """One adapter alone as a module of the result; raises NotSupported for one that reads the base's weights where they are not given."""
    return _module(layer, [(adapter, 1.0)], goal, weights)


def _cut(adapter: Adapter, strength: Strength) -> Adapter:
    return adapter if strength.dyn is None else adapter.cut(strength.dyn) or adapter


def _steady(file: LoraFile, strength: Strength, layer: Layer) -> float:
    if not strength.constant_at(layer.place):
        raise NotSupported(
            f"{file.name}: a file has one strength for all steps, and this one changes; give a number, or take its mean",
            fields=("flatten",),
        )
    return strength.at(layer.place, 1, 1)


def _module(layer: Layer, parts: Weighted, goal: Goal, weights: Weights | None) -> Module:
    """The sum of these adapters as the goal wants it; norms and biases alone stay what they are."""
    if layer.kind == "norm":
        return _norm(layer, parts)
    change = Change.of(layer, parts, weights)
    return Module(layer.target, Full(bias=change.bias), 0, 0, 0.0, 0.0) if change.nothing else form(goal.type)(change, goal)


def _norm(layer: Layer, parts: Weighted) -> Module:
    total = torch.stack([value * adapter.delta(torch.zeros(layer.shape)) for adapter, value in parts]).sum(0)
    shifts = [value * shift for adapter, value in parts if (shift := adapter.bias_delta(torch.zeros(layer.shape))) is not None]
    return Module(layer.target, Norm(weight=total, shift=torch.stack(shifts).sum(0) if shifts else None), 0, 0, 0.0, float(total.norm()))
