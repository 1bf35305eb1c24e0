"""The noise of a sample: white, and what may be added to it. Each part draws from a generator of its own, so an option that is
off leaves the others' numbers as they were."""

from typing import TYPE_CHECKING

from loraloom.lazy import torch
from loraloom.train.chance import Sample
from loraloom.train.config.loss import LossFields

if TYPE_CHECKING:
    from torch import Tensor


def noise(sample: Sample, shape: tuple[int, ...], config: LossFields) -> "Tensor":
    """ε, float32 [c, h, w]: what the denoiser is to find."""
    drawn = torch.randn(shape, generator=sample.generator("noise"))
    if config.noise_offset:
        drawn = drawn + _strength(sample, config.noise_offset, config.noise_offset_random, "noise offset strength") * _offset(sample, shape)
    if config.multires_noise_iterations:
        drawn = pyramid(drawn, sample, iterations=config.multires_noise_iterations, discount=config.multires_noise_discount)
    return drawn


def perturbed(drawn: "Tensor", sample: Sample, config: LossFields) -> "Tensor":
    """ε + γ ξ: the noise that the denoiser sees, while ε stays what it is to find.  Ning et al. 2023, arXiv:2301.11706."""
    if not config.input_perturbation:
        return drawn
    gamma = _strength(sample, config.input_perturbation, config.input_perturbation_random, "input perturbation strength")
    return drawn + gamma * torch.randn(drawn.shape, generator=sample.generator("input perturbation"))


def pyramid(drawn: "Tensor", sample: Sample, *, iterations: int, discount: float) -> "Tensor":
    """(ε + Σ_i discount^i · noise of 1/rⁱ the size, enlarged) / its standard deviation, r drawn from 2..4 for each i.

    Whitaker 2023, "Multi-Resolution Noise for Diffusion Model Training"; the sizes are those of kohya's trainer.
    """
    height, width = drawn.shape[1:]
    for level in range(iterations):
        ratio = (2 + 2 * sample.chance(f"multires ratio {level}")) ** level
        size = max(1, int(height / ratio)), max(1, int(width / ratio))
        coarse = torch.randn((1, drawn.shape[0], *size), generator=sample.generator(f"multires noise {level}"))
        drawn = drawn + torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0] * discount**level
        if 1 in size:
            break
    return drawn / drawn.std()


def _offset(sample: Sample, shape: tuple[int, ...]) -> "Tensor":
    """A little of the same for a whole channel: Guttenberg 2023, "Diffusion with Offset Noise"."""
    return torch.randn(shape[0], 1, 1, generator=sample.generator("noise offset"))


def _strength(sample: Sample, given: float, random: bool, purpose: str) -> float:
    """As given, or uniform in 0..given."""
    return given * sample.chance(purpose) if random else given
