"""A network as another program reads it: what it does not read as it is meant becomes a LoRA or a whole change, without loss unless a
goal allows some; or plain LoRAs for all, which everybody reads."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from loraloom.adapters import Adapter
from loraloom.bases import Base, Layer, Target
from loraloom.combine.change import Module, Weights
from loraloom.combine.goal import Goal
from loraloom.combine.mixing import single
from loraloom.errors import NotSupported, SettingsError
from loraloom.lorafile import LoraFile

Unread = Callable[[Adapter, Layer], str | None]  # why a program does not read an adapter of this layer as it is meant; None: it does
_SIZES = ("rank", "error", "energy")


@dataclass(frozen=True)
class Fitted:
    """The network as it will be written, and what is different about it."""

    file: LoraFile
    errors: Mapping[Target, float]  # of each module that lost something, relative (Frobenius)
    left_out: tuple[str, ...] = ()  # what has no place in it, each with its size


def as_read(file: LoraFile, base: Base, unread: Unread, goal: Goal, weights: Weights | None) -> Fitted:
    """Every adapter that `unread` has a reason against as the goal's type, else as the smaller of lora and full that it has none against.

    `weights` gives the base's own weights. Raises NotSupported, naming a module and the reason, where one is left.
    """
    found = dict(_made(file, base, unread, goal, weights))
    return Fitted(replace(file, adapters={**file.adapters, **{target: module.adapter for target, module in found.items()}}), _errors(found))


def plain(file: LoraFile, base: Base, goal: Goal, weights: Weights | None = None) -> Fitted:
    """Every adapter as a LoRA of two factors without a bias, exact unless the goal allows a loss: cores and products are folded. Biases
    and changes of norms have no place there and are left out, each by name.

    Raises NotSupported for what has no such factors, and where nothing would be left.
    """
    wanted = replace(goal, type="lora")
    found, left_out = {}, []
    for target, adapter in file.adapters.items():
        layer = base.by_target[target]
        if (lost := _lost(adapter, layer)) is not None:
            left_out.append(lost)
        if layer.kind == "norm" or adapter.tensors().keys() <= {"diff_b"}:
            continue
        bare = adapter.with_tensors({"bias": None}) if "diff_b" in adapter.tensors() else adapter  # type: ignore[dict-item]
        if "lora_mid.weight" not in bare.tensors() and bare.name == "lora" and goal.exact:
            found[target] = Module(target, bare, 0, 0, 0.0, 0.0)
        else:
            found[target] = single(layer, bare, wanted, weights)
    if not found:
        raise NotSupported(f"{file.name}: nothing of it is a change of a weight that plain factors could hold")
    adapters = {target: module.adapter for target, module in found.items()}
    return Fitted(replace(file, adapters=adapters), _errors(found), tuple(left_out))


def _lost(adapter: Adapter, layer: Layer) -> str | None:
    """What of an adapter plain factors have no place for."""
    own = adapter.tensors()
    if layer.kind == "norm":
        return f"{layer.target}: the change of a norm, of length {max(float(tensor.float().norm()) for tensor in own.values()):.2g}"
    return f"{layer.target}: a bias of length {float(own['diff_b'].float().norm()):.2g}" if "diff_b" in own else None


def _made(file: LoraFile, base: Base, unread: Unread, goal: Goal, weights: Weights | None) -> Iterator[tuple[Target, Module]]:
    for target, adapter in file.adapters.items():
        layer = base.by_target[target]
        reason = unread(adapter, layer)
        if reason is not None:
            yield target, _other(layer, adapter, reason, unread, goal, weights)


class _Attempt(NamedTuple):
    module: Module | None
    failed: str = ""
    fields: tuple[str, ...] = ()


def _other(layer: Layer, adapter: Adapter, reason: str, unread: Unread, goal: Goal, weights: Weights | None) -> Module:
    """The smallest module that is read."""
    attempts = [_attempt(layer, adapter, unread, each, weights) for each in _goals(goal)]
    made = [each.module for each in attempts if each.module is not None]
    if made and layer.kind != "norm":
        return min(made, key=lambda module: module.adapter.nbytes)
    fields = next((each.fields for each in attempts if each.fields), ())
    failed = next((each.failed for each in attempts if each.failed), "as no other type it would be read either")
    raise NotSupported(f"{layer.target}: {reason}; {failed}", fields=fields)


def _goals(goal: Goal) -> tuple[Goal, ...]:
    return (goal,) if goal.type else (replace(goal, type="lora"), Goal(type="full"))


def _attempt(layer: Layer, adapter: Adapter, unread: Unread, goal: Goal, weights: Weights | None) -> _Attempt:
    if layer.kind == "norm":
        return _Attempt(None, "a norm's change has no other form; leave it out, by writing the network plain")
    try:
        module = single(layer, adapter, goal, weights)
    except (NotSupported, SettingsError) as error:
        return _Attempt(None, str(error).removeprefix(f"{layer.target}: "), error.fields or _SIZES)
    again = unread(module.adapter, layer)
    return _Attempt(module) if again is None else _Attempt(None, f"as {module.adapter.name} neither: {again}")


def _errors(found: Mapping[Target, Module]) -> dict[Target, float]:
    return {target: module.error for target, module in found.items() if module.error}
