"""What the denoiser should answer, how far it is off, and how much a timestep counts.

Signal and noise: x_t = √ā x₀ + √(1−ā) ε, SNR = ā/(1−ā).  Ho et al. 2020, arXiv:2006.11239.
"""

from typing import TYPE_CHECKING, Literal

from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]


def noisy(clean: "Tensor", noise: "Tensor", alphas_cumprod: "Tensor") -> "Tensor":
    """x_t; `alphas_cumprod` is ā of each sample's timestep, [n]."""
    signal = alphas_cumprod.reshape(-1, 1, 1, 1)
    return signal.sqrt() * clean + (1 - signal).sqrt() * noise


def target(prediction: Prediction, clean: "Tensor", noise: "Tensor", alphas_cumprod: "Tensor") -> "Tensor":
    """ε, or v = √ā ε − √(1−ā) x₀ (Salimans & Ho 2022, arXiv:2202.00512, appendix D)."""
    if prediction == "epsilon":
        return noise
    signal = alphas_cumprod.reshape(-1, 1, 1, 1)
    return signal.sqrt() * noise - (1 - signal).sqrt() * clean


def min_snr_weights(prediction: Prediction, alphas_cumprod: "Tensor", gamma: float) -> "Tensor":
    """min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1) for v; 1 everywhere if γ is 0.  Hang et al. 2023, arXiv:2303.09556, §3.4.

    Bases with zero terminal SNR (Lin et al. 2023, arXiv:2305.08891) have SNR 0 at the last timestep: ε counts 1 there, v 0.
    """
    if not gamma:
        return torch.ones_like(alphas_cumprod)
    # Written in ā, so that neither SNR = 0 nor SNR = ∞ divides by zero: 1/SNR = (1−ā)/ā and 1/(SNR+1) = 1−ā.
    if prediction == "epsilon":
        return (gamma * (1 - alphas_cumprod) / alphas_cumprod).clamp(max=1)
    return torch.minimum(alphas_cumprod, gamma * (1 - alphas_cumprod))


def per_sample(predicted: "Tensor", wanted: "Tensor", weights: "Tensor") -> "Tensor":
    """Weighted mean squared error of each sample, [n]."""
    return weights * (predicted - wanted).square().mean(dim=(1, 2, 3))
