"""What noise does to a picture, and what the denoiser should answer: x_t = a x₀ + b ε.

Diffusion: a = √ā, b = √(1−ā) (Ho et al. 2020, arXiv:2006.11239). Flow: a = 1−σ, b = σ (Liu et al. 2022, arXiv:2209.03003).
The signal-to-noise ratio SNR = a²/b² makes both comparable: ā stands for a²/(a²+b²) everywhere.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loraloom.errors import SettingsError
from loraloom.train.loss.terminal import zero_terminal

if TYPE_CHECKING:
    from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "flow_prediction"]


@dataclass(frozen=True)
class Process:
    """A base's noise: what it predicts, and how much signal is left at each of its timesteps."""

    prediction: Prediction
    alphas_cumprod: "Tensor"  # float32 [timesteps], on the CPU: ā, the share of the signal's variance

    @classmethod
    def of(cls, prediction: Prediction, alphas_cumprod: "Tensor", *, zero_terminal_snr: bool = False) -> "Process":
        """Raises SettingsError for a flow that is to be rescaled: it ends in pure noise as it is."""
        shares = alphas_cumprod.float().cpu()
        if not zero_terminal_snr:
            return cls(prediction, shares)
        if prediction == "flow_prediction":
            raise SettingsError("zero_terminal_snr: this base is a flow, which ends in pure noise already; leave it off")
        return cls(prediction, zero_terminal(shares))

    @property
    def timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def noisy(self, clean: "Tensor", noise: "Tensor", timesteps: "Tensor") -> "Tensor":
        """x_t of each sample [n, c, h, w] at its own timestep, int64 [n]."""
        signal, disturbance = self._parts(timesteps)
        return signal * clean + disturbance * noise

    def target(self, clean: "Tensor", noise: "Tensor", timesteps: "Tensor") -> "Tensor":
        """ε; v = √ā ε − √(1−ā) x₀ (Salimans & Ho 2022, arXiv:2202.00512, appendix D); or the flow's velocity ε − x₀."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "flow_prediction":
            return noise - clean
        signal, disturbance = self._parts(timesteps)
        return signal * noise - disturbance * clean

    def heard(self, timesteps: "Tensor") -> "Tensor":
        """What the denoiser is told: the timestep, or σ times their number (as diffusers' flow schedulers do)."""
        if self.prediction != "flow_prediction":
            return timesteps
        return self._parts(timesteps)[1].flatten() * self.timesteps

    def _parts(self, timesteps: "Tensor") -> "tuple[Tensor, Tensor]":
        """a and b, [n, 1, 1, 1]."""
        share = self.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
        signal, disturbance = share.sqrt(), (1 - share).sqrt()
        if self.prediction != "flow_prediction":
            return signal, disturbance
        whole = signal + disturbance  # (1−σ) + σ = 1
        return signal / whole, disturbance / whole
