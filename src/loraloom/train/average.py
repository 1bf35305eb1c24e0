"""A moving average of the adapters (EMA): a ← k a + (1−k) w after each step, with k = min(decay, (1+n)/(10+n)) at step n.

The warm-up is that of tf.train.ExponentialMovingAverage: without it the first values, drawn by chance, would count for thousands of steps.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.bases import Target
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from loraloom.train.trainable import Trainable


class Average:
    """The average of a network's tensors, float32 beside them."""

    def __init__(self, network: "Trainable", decay: float) -> None:
        self._network, self._decay = network, decay
        self.values = {f"{target}.{field}": parameter.detach().clone() for target, field, parameter in network.slots()}

    def update(self, step: int) -> None:
        """After step `step`, counted from 1."""
        keep = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for target, field, parameter in self._network.slots():
                self.values[f"{target}.{field}"].lerp_(parameter, 1 - keep)

    def restore(self, values: "Mapping[str, Tensor]") -> None:
        for name, tensor in self.values.items():
            tensor.copy_(values[name])

    def snapshot(self) -> dict[Target, Adapter]:
        """The averaged adapters, copies on the CPU."""
        found = self._network.snapshot()
        return {
            target: adapter.with_tensors({field: self.values[f"{target}.{field}"].cpu().clone() for field in adapter.trainable()})
            for target, adapter in found.items()
        }
