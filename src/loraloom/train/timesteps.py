"""Which timestep a sample is noised to: u in 0..1 (1 is pure noise) from a distribution, shifted, spread over the allowed timesteps.

Esser et al. 2024, arXiv:2403.03206, §3.1 for logit_normal, mode and cosmap, §5.3.2 for the shift.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from loraloom.errors import SettingsError
from loraloom.lazy import torch
from loraloom.train.chance import Sample
from loraloom.train.config.loss import LossFields, Sampling

if TYPE_CHECKING:
    from torch import Generator, Tensor


def timestep(sample: Sample, config: LossFields, timesteps: int) -> "Tensor":
    """An int64 scalar in min_timestep .. max_timestep − 1."""
    low, high = bounds(config, timesteps)
    chance = sample.generator("timestep")
    if config.timestep_sampling == "uniform" and config.timestep_shift == 1:
        return torch.randint(low, high, (), generator=chance)
    noise = _shifted(_DRAWN[config.timestep_sampling](config, chance), config.timestep_shift)
    return torch.tensor(min(high - 1, low + int(noise * (high - low))))


def bounds(config: LossFields, timesteps: int) -> tuple[int, int]:
    """The timesteps that are drawn, the last one excluded; raises SettingsError where none is left."""
    high = min(config.max_timestep, timesteps)
    if config.min_timestep >= high:
        raise SettingsError(f"min_timestep {config.min_timestep} and max_timestep {high} leave nothing of the base's {timesteps} timesteps")
    return config.min_timestep, high


def _uniform(_: LossFields, chance: "Generator") -> float:
    return float(torch.rand((), generator=chance, dtype=torch.float64))


def _logit_normal(config: LossFields, chance: "Generator") -> float:
    """1/(1 + e^−z), z normal."""
    normal = config.logit_mean + config.logit_std * float(torch.randn((), generator=chance, dtype=torch.float64))
    return 1 / (1 + math.exp(-normal))


def _mode(config: LossFields, chance: "Generator") -> float:
    """1 − u − s (cos²(πu/2) − 1 + u): more of the middle for s > 0."""
    uniform = _uniform(config, chance)
    return 1 - uniform - config.mode_scale * (math.cos(math.pi / 2 * uniform) ** 2 - 1 + uniform)


def _cosmap(config: LossFields, chance: "Generator") -> float:
    """1 − 1/(tan(πu/2) + 1): the density of a cosine schedule."""
    return 1 - 1 / (math.tan(math.pi / 2 * _uniform(config, chance)) + 1)


def _beta(config: LossFields, chance: "Generator") -> float:
    """Beta(a, b); above 1 both leave out the ends."""
    seed = int(torch.randint(2**63 - 1, (), generator=chance))
    return float(np.random.default_rng(seed).beta(config.beta_a, config.beta_b))


_DRAWN: "Mapping[Sampling, Callable[[LossFields, Generator], float]]" = {
    "uniform": _uniform,
    "logit_normal": _logit_normal,
    "mode": _mode,
    "cosmap": _cosmap,
    "beta": _beta,
}


def _shifted(noise: float, shift: float) -> float:
    """s u/(1 + (s−1) u): towards noise for s > 1, as large pictures need."""
    return shift * noise / (1 + (shift - 1) * noise)
