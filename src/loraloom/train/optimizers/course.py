"""The learning rate of each step as a function of the step alone: nothing to save, nothing to drift."""

import math
from collections.abc import Callable, Mapping

from loraloom.train.config import ResolvedConfig
from loraloom.train.defaults import Scheduler

_COURSES: Mapping[Scheduler, Callable[[float, ResolvedConfig], float]] = {  # of the progress p after the warm-up, 0..1
    "constant": lambda _, __: 1.0,
    "linear": lambda p, _: 1 - p,
    "cosine": lambda p, _: (1 + math.cos(math.pi * p)) / 2,
    "cosine_with_restarts": lambda p, config: (1 + math.cos(math.pi * (config.restarts * p % 1))) / 2,
    "polynomial": lambda p, config: (1 - p) ** config.power,
    "rex": lambda p, _: (1 - p) / (1 - p / 2),  # Chen et al. 2021, arXiv:2107.04197
}


def rate_factor(config: ResolvedConfig, step: int) -> float:
    """The learning rate of `step` (from 1) as a part of its peak; never 0, so that no step is lost."""
    if step <= config.warmup:
        return step / (config.warmup + 1)
    return _COURSES[config.scheduler]((step - config.warmup - 1) / max(1, config.steps - config.warmup), config)


def scale(config: ResolvedConfig) -> float:
    """What multiplies everything that is learned: alpha/rank, or rsLoRA's alpha/√rank."""
    return config.alpha / (math.sqrt(config.rank) if config.rslora else config.rank)


def told(config: ResolvedConfig) -> str:
    """The learning rates in words; one means nothing without alpha/rank."""
    times, root = scale(config), "√rank" if config.rslora else "rank"
    shown = (f"{name} {(peak := config.learning_rate_of(name)):g} × {times:g} = {peak * times:g}" for name in config.components)
    course = f"{config.optimizer}, {config.scheduler} after {config.warmup} steps of warm-up"
    return f"learning rate × alpha/{root}: {', '.join(shown)}; {course}"
