"""An optimiser from its name, or from `module.Class`, with options from the command line."""

import ast
import importlib
import inspect
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from loraloom.errors import SettingsError, suggestion
from loraloom.extras import missing
from loraloom.lazy import torch
from loraloom.train.config import ResolvedConfig
from loraloom.train.optimizers.known import KNOWN, known

if TYPE_CHECKING:
    from torch.optim import Optimizer


Group = Mapping[str, Any]  # {"params": parameters, "peak": learning rate}
_OURS = {"params": "the components", "lr": "--lr", "weight_decay": "--weight-decay"}


def make(groups: "Sequence[Group]", config: ResolvedConfig) -> "Optimizer":
    """An optimiser over these parameter groups, each with its "peak" learning rate; ready to train.

    Raises SettingsError for an unknown name or option, for a package that is not installed, by its name, and for several learning
    rates where the optimiser finds one for all.
    """
    kind = _kind(config.optimizer)
    if known(config.optimizer).rate is not None and len(peaks := sorted({group["peak"] for group in groups})) > 1:
        raise SettingsError(f"optimiser {config.optimizer} finds one learning rate for all; it is given {' and '.join(map(str, peaks))}")
    options = {"lr": config.learning_rate, "weight_decay": config.weight_decay, **known(config.optimizer).options}
    takes = inspect.signature(kind).parameters
    accepted = {name: value for name, value in options.items() if name in takes} | _given(config, takes)
    try:
        with redirect_stdout(io.StringIO()):  # some print what they were given
            optimizer: Optimizer = kind([dict(group) for group in groups], **accepted)
    except (TypeError, ValueError, AssertionError) as error:
        raise SettingsError(f"optimiser {config.optimizer} does not take {accepted}: {error or type(error).__name__}") from error
    if switches(optimizer):
        optimizer.train()  # type: ignore[attr-defined]
    return optimizer


def switches(optimizer: "Optimizer") -> bool:
    """Does it train on other values than it publishes (schedule-free)? Then it has `train()` and `eval()`."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


@contextmanager
def evaluated(optimizer: "Optimizer") -> "Iterator[None]":
    """Inside, the parameters are what the optimiser publishes; afterwards the bits that it trains on, which a switch and back rounds."""
    if not switches(optimizer):
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = [parameter.detach().clone() for parameter in parameters]
    optimizer.eval()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined]
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                parameter.copy_(before)


def set_rates(optimizer: "Optimizer", factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate(optimizer: "Optimizer") -> float:
    """The learning rate of the first component now; of one that finds it itself, what it found (Prodigy: d · lr)."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) * float(group.get("d", 1.0))


def _kind(name: str) -> "Any":
    if name not in KNOWN and "." not in name:
        hint = suggestion(name, KNOWN) or f"; known are {', '.join(KNOWN)}, and any module.Class"
        raise SettingsError(f"no optimiser named {name!r}{hint}")
    module, _, last = (KNOWN[name].where if name in KNOWN else name).rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), last, None)
    except ImportError as error:
        raise SettingsError(missing(f"optimiser {name}", module, error)) from error
    if not (inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)):
        raise SettingsError(f"optimiser {name}: {module} has no optimiser class {last!r}")
    return kind


def _given(config: ResolvedConfig, takes: Mapping[str, Any]) -> dict[str, Any]:
    """`betas=0.9,0.99` as {"betas": (0.9, 0.99)}."""
    found = {}
    for text in config.optimizer_options:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise SettingsError(f"optimizer_options: {text!r} is not name=value, as in betas=0.9,0.99")
        if name in _OURS:
            raise SettingsError(f"optimizer_options: {name} is set by {_OURS[name]}")
        if name not in takes:
            others = [other for other in takes if other not in _OURS]
            raise SettingsError(
                f"optimiser {config.optimizer} has no option {name!r}{suggestion(name, others) or '; it has ' + ', '.join(others)}"
            )
        found[name] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    """A number, True, None, a tuple; anything else is a word."""
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        return text
