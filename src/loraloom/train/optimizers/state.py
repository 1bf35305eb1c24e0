"""An optimiser's state as tensors and JSON, and back: what a run that goes on needs, without pickle."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch

from loraloom.errors import NotSupported
from loraloom.lazy import torch
from loraloom.train.chance import generator
from loraloom.train.config import ResolvedConfig
from loraloom.train.optimizers.make import make

if TYPE_CHECKING:
    from torch import Tensor, device
    from torch.optim import Optimizer

_DEEPER = "/"  # between the names of nested states; a parameter's number and the name are joined by a dot
_STEPS = 2
_LARGE = 2**13  # values of a tensor: 8-bit optimisers keep small ones as they are


def taken(optimizer: "Optimizer") -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Its tensors on the CPU by "parameter's number.name", and its numbers: {"values": {...}, "groups": [...]}."""
    found = optimizer.state_dict()
    flat = dict(_flat(found["state"]))
    tensors = {name: value.detach().cpu().clone() for name, value in flat.items() if isinstance(value, torch.Tensor)}
    groups = [{name: value for name, value in group.items() if name != "params"} for group in found["param_groups"]]
    return tensors, {"values": {name: value for name, value in flat.items() if name not in tensors}, "groups": groups}


def given_back(optimizer: "Optimizer", tensors: "Mapping[str, Tensor]", numbers: Mapping[str, Any]) -> None:
    """The optimiser as it was when `taken`."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers["values"]}.items():
        index, name = key.split(".", 1)
        *outer, last = name.split(_DEEPER)
        place = state.setdefault(int(index), {})
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    groups = optimizer.state_dict()["param_groups"]
    for group, saved in zip(groups, numbers["groups"], strict=True):
        group.update({name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def check_that_it_survives(config: ResolvedConfig, device: "device") -> None:
    """Two optimisers of this job, one of them saved and read back after some steps, go on alike bit for bit.

    Raises NotSupported where they do not, and for an optimiser that cannot make a step from gradients alone.
    """
    try:
        straight, stopped = _walked(config, device, _STEPS), _walked(config, device, _STEPS)
    except (TypeError, RuntimeError) as error:
        raise NotSupported(f"optimiser {config.optimizer} makes no step from gradients alone: {error}") from error
    if config.no_resume:
        return
    try:
        tensors, numbers = taken(stopped)
        content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        resumed = _walked(config, device, 0)
        with torch.no_grad():
            for own, other in zip(_values(resumed), _values(stopped), strict=True):
                own.copy_(other)
        given_back(resumed, safetensors.torch.load(content), json.loads(json.dumps(numbers)))
        for optimizer in (straight, resumed):
            _walk(optimizer, _STEPS + 1)
        same = all(torch.equal(a, b) for a, b in zip(_values(straight), _values(resumed), strict=True))
        why = "" if same else "a run that goes on would not end as a straight one does"
    except (TypeError, ValueError, KeyError, RuntimeError, AttributeError, safetensors.SafetensorError) as error:
        why = f"{type(error).__name__}: {error}"
    if why:
        raise NotSupported(
            f"the state of optimiser {config.optimizer} cannot be saved as tensors and numbers ({why}); "
            "use another one, or --no-resume, with which an interrupted run is lost"
        )


def _walked(config: ResolvedConfig, device: "device", steps: int) -> "Optimizer":
    """An optimiser of this job over two tensors, one of which begins at 0, after some steps."""
    first = torch.randn(8, _LARGE // 8, generator=generator("optimiser", 0))
    parameters = [torch.nn.Parameter(tensor.to(device)) for tensor in (first, torch.zeros(_LARGE // 8, 8))]
    optimizer = make([{"params": parameters, "peak": config.learning_rate}], config)
    for step in range(1, steps + 1):
        _walk(optimizer, step)
    return optimizer


def _walk(optimizer: "Optimizer", step: int) -> None:
    for index, parameter in enumerate(_values(optimizer)):
        parameter.grad = torch.randn(parameter.shape, generator=generator("optimiser", step, index)).to(parameter.device)
    optimizer.step()


def _values(optimizer: "Optimizer") -> "list[Tensor]":
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _flat(state: Mapping[Any, Any], prefix: str = "", between: str = "") -> Iterator[tuple[str, Any]]:
    """Nested states with one name each: "0.exp_avg", "0.quantised/state1"."""
    for name, value in state.items():
        path = f"{prefix}{between}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, path, "." if not prefix else _DEEPER)
        else:
            yield path, value
