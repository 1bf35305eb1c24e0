"""Zero terminal SNR: √ā ← (√ā − √ā_T) · √ā₁ / (√ā₁ − √ā_T).  Lin et al. 2023, arXiv:2305.08891, algorithm 1.

The last timestep is pure noise afterwards and the first is as before, so that very dark and very bright pictures can be learned.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def zero_terminal(alphas_cumprod: "Tensor") -> "Tensor":
    """ā of every timestep, rescaled; float32 [timesteps]."""
    root = alphas_cumprod.double().sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * (first / (first - last))).square().float()
