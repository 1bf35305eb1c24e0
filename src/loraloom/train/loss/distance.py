"""How far an answer d = predicted − wanted is off, for each value and for each picture.

l2: d². l1: |d|. Pseudo-Huber, quadratic below a threshold c and linear above it: huber: 2c(√(d²+c²) − c); smooth_l1: 2(√(d²+c²) − c).
The threshold follows the timestep: Khrapov et al. 2024, arXiv:2403.16728, with the names of kohya's trainer.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from loraloom.train.config.loss import Distance, HuberSchedule
from loraloom.train.loss.process import Process

if TYPE_CHECKING:
    from torch import Tensor

_DISTANCES: "Mapping[Distance, Callable[[Tensor, Tensor], Tensor]]" = {
    "l2": lambda off, _: off.square(),
    "l1": lambda off, _: off.abs(),
    "huber": lambda off, c: 2 * c * ((off.square() + c.square()).sqrt() - c),
    "smooth_l1": lambda off, c: 2 * ((off.square() + c.square()).sqrt() - c),
}


def thresholds(schedule: HuberSchedule, c: float, process: Process, timesteps: "Tensor") -> "Tensor":
    """float32 [n]. constant: c; exponential: c^(t/T), from 1 down to c; snr: (1−c)/(1+σ)² + c with σ = √((1−ā)/ā)."""
    share = process.alphas_cumprod[timesteps]
    if schedule == "constant":
        return share * 0 + c
    if schedule == "exponential":
        return (c ** (timesteps.double() / process.timesteps)).float()
    root = share.sqrt()
    return (1 - c) * (root / (root + (1 - share).sqrt())).square() + c  # 1/(1+σ) without a division by ā, which may be 0


def distance(kind: Distance, predicted: "Tensor", wanted: "Tensor", threshold: "Tensor") -> "Tensor":
    """Of each value, [n, c, h, w]; `threshold` [n] is read by the pseudo-Huber losses."""
    return _DISTANCES[kind](predicted - wanted, threshold.reshape(-1, 1, 1, 1))


def per_sample(distances: "Tensor", weights: "Tensor", places: "Tensor | None" = None) -> "Tensor":
    """Weighted mean of each sample, [n]. `weights` [n] count samples, `places` [n, 1, h, w] parts of a picture: one that
    counts 0 teaches nothing, and the mean still divides by all places."""
    return weights * (distances if places is None else distances * places).mean(dim=(1, 2, 3))
