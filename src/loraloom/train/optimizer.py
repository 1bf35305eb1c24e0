"""Optimisers by name, and the learning rate of each step as a function of the step alone: nothing to save, nothing to drift."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from loraloom.errors import SettingsError, suggestion
from loraloom.lazy import torch
from loraloom.train.config import ResolvedConfig
from loraloom.train.defaults import Scheduler
from loraloom.train.rates import parameter_groups

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from loraloom.train.trainable import Trainable

OPTIMIZERS: "Mapping[str, Callable[[list[dict[str, object]], ResolvedConfig], Optimizer]]" = {
    # Loshchilov & Hutter 2017, arXiv:1711.05101
    "adamw": lambda groups, config: torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay),
}

_COURSES: Mapping[Scheduler, Callable[[float], float]] = {  # of the progress after the warm-up, 0..1
    "constant": lambda _: 1.0,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}


def make(network: "Trainable", config: ResolvedConfig) -> "Optimizer":
    """Its parameter groups have a peak learning rate each (`rates`); raises SettingsError for an unknown name."""
    if config.optimizer not in OPTIMIZERS:
        hint = suggestion(config.optimizer, OPTIMIZERS) or f"; known are {', '.join(OPTIMIZERS)}"
        raise SettingsError(f"no optimiser named {config.optimizer!r}{hint}")
    return OPTIMIZERS[config.optimizer](parameter_groups(network, config), config)


def set_rates(optimizer: "Optimizer", factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(config: ResolvedConfig, step: int) -> float:
    """The learning rate of `step` (from 1) as a part of its peak; never 0, so that no step is lost."""
    if step <= config.warmup:
        return step / (config.warmup + 1)
    return _COURSES[config.scheduler]((step - config.warmup - 1) / max(1, config.steps - config.warmup))
