"""How much a timestep counts: a weight of its error on x₀, turned into one of the error of what the base predicts.

An error e of ε is e/√SNR on x₀, one of v is e/√(SNR + 1), one of the flow's velocity σ e. All is written in ā = SNR/(SNR + 1), so that
neither SNR = 0 nor SNR = ∞ divides by zero.
"""

from typing import TYPE_CHECKING

from loraloom.lazy import torch
from loraloom.train.loss.process import Prediction

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 1000.0  # SNR is clipped to 1/1000 .. 1000, as kohya's trainer clips it above


def min_snr(prediction: Prediction, alphas_cumprod: "Tensor", gamma: float) -> "Tensor":
    """min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1) for v; 1 everywhere if γ is 0.  Hang et al. 2023, arXiv:2303.09556, §3.4.

    Bases with zero terminal SNR (Lin et al. 2023, arXiv:2305.08891) have SNR 0 at the last timestep: ε counts 1 there, v 0.
    """
    if not gamma:
        return torch.ones_like(alphas_cumprod)
    if prediction == "epsilon":
        return (gamma * (1 - alphas_cumprod) / alphas_cumprod).clamp(max=1)
    return _of_velocity(prediction, alphas_cumprod, torch.minimum(alphas_cumprod, gamma * (1 - alphas_cumprod)))


def debiased(prediction: Prediction, alphas_cumprod: "Tensor") -> "Tensor":
    """1/√SNR for ε, √SNR/(SNR + 1) for v: the same weight √SNR of the error on x₀.  Yu et al. 2023, arXiv:2310.08442."""
    snr = (alphas_cumprod / (1 - alphas_cumprod)).clamp(1 / _MOST, _MOST)
    if prediction == "epsilon":
        return snr.rsqrt()
    return _of_velocity(prediction, alphas_cumprod, snr.sqrt() / (snr + 1))


def _of_velocity(prediction: Prediction, alphas_cumprod: "Tensor", weights: "Tensor") -> "Tensor":
    """The weights of v, or the flow's: (SNR + 1) σ² = 1/(√ā + √(1−ā))² times them."""
    if prediction == "v_prediction":
        return weights
    return weights / (alphas_cumprod.sqrt() + (1 - alphas_cumprod).sqrt()).square()
