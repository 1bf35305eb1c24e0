"""No delta longer than a limit: what kohya's trainer calls `scale_weight_norms`, for every type that a number scales.

delta ← delta · limit/‖delta‖ where ‖delta‖ (Frobenius, the scale alpha/r included) is above the limit. Of DoRA it is the change
before the magnitudes. kohya's sd-scripts, `apply_max_norm_regularization`.
"""

import math
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter, Wrapper
from loraloom.combine.spectrum import product_norm
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from loraloom.train.trainable import Trainable


def limit_norms(network: "Trainable", limit: float) -> int:
    """Scales the network's tensors in place; how many modules were longer."""
    count = 0
    with torch.no_grad():
        for target, adapter in network.adapters.items():
            norm = delta_norm(adapter, network.weight(target)) if adapter.degree else 0.0
            if norm > limit and math.isfinite(norm):
                count += 1
                shrunk = adapter.shrunk(limit / norm).trainable()
                for field, parameter in adapter.trainable().items():
                    parameter.copy_(shrunk[field])
    return count


def delta_norm(adapter: Adapter, weight: "Tensor") -> float:
    """‖delta‖ on this weight; of the inner adapter where one is wrapped. Factors give it without the whole matrix."""
    inner = adapter.inner if isinstance(adapter, Wrapper) else adapter
    thin = inner.thin(tuple(weight.shape)) if weight.ndim > 1 else None
    if thin is None:
        return float(torch.linalg.vector_norm(inner.delta(weight)))
    down, up, factor = thin
    return product_norm(down, up) * abs(factor)
