"""IA3: delta = W ∘ w, along the input columns where `on_input`, else along the output rows.  Liu et al. 2022, arXiv:2205.05638.

As LyCORIS has it: w is stored less 1, and a bias of the layer stays as it is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters.base import Adapter, Shape, key
from loraloom.adapters.like import along, like, without_bias
from loraloom.errors import BadTensor, ShapeMismatch
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, eq=False)
class IA3(Adapter):
    name: ClassVar[str] = "ia3"
    reads_weight: ClassVar[bool] = True

    vector: "Tensor" = key("weight")  # [channels], of a convolution [1, channels, 1, 1]
    on_input: "Tensor" = key("on_input", number=True)  # whether the channels are the input's

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        shape = shapes["weight"]
        if not math.prod(shape) or (len(shape) != 1 and (len(shape) < 3 or shape[0] != 1 or math.prod(shape[2:]) != 1)):
            raise BadTensor(f"ia3: weight {list(shape)} is not one number for each channel: [n], or [1, n, 1, 1] of a convolution")

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape], target: Shape) -> Shape:
        length = math.prod(shapes["weight"])
        return target if length in target[:2] else (length, *target[1:])

    @classmethod
    def misfit(cls, shapes: Mapping[str, Shape], target: Shape) -> str | None:
        length = math.prod(shapes["weight"])
        if length not in target[:2]:
            return f"weight {list(shapes['weight'])} is one number for neither the {target[0]} outputs nor the {target[1]} inputs"
        return super().misfit(shapes, target)

    @classmethod
    def init(
        cls,
        weight: "Tensor",
        *,
        rank: int,
        alpha: float,
        generator: "torch.Generator | None" = None,
        train_on_input: bool = False,
    ) -> "IA3":
        """Zeros; there is no rank and no alpha. `train_on_input` as LyCORIS names it: PEFT does so for feed-forward modules."""
        channels = weight.shape[1 if train_on_input else 0]
        shape = (channels,) if weight.ndim == 2 else (1, channels, *[1] * (weight.ndim - 2))
        return cls(vector=torch.zeros(shape, device=weight.device), on_input=torch.tensor(float(train_on_input)))

    @property
    def degree(self) -> int:
        return 1

    def delta(self, weight: "Tensor") -> "Tensor":
        """Raises ShapeMismatch where `on_input` names the side that has another number of channels."""
        dim = self._dim(tuple(weight.shape))
        gain = self.vector.to(weight.device, torch.float32).reshape([-1 if each == dim else 1 for each in range(weight.ndim)])
        return weight.float() * gain

    def bound(self, weight: "Tensor") -> "IA3":
        """The flag where it is read without waiting for a device; raises ShapeMismatch as `delta` does."""
        self._dim(tuple(weight.shape))
        return replace(self, on_input=self.on_input.cpu())

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        weight: Tensor = layer.weight  # type: ignore[assignment]
        gain = along(self.vector.flatten().to(y.device, y.dtype), layer)
        bias = None if self.bias is None else self.bias.to(y.device, y.dtype)
        if self._dim(tuple(weight.shape)):
            return like(layer, x * gain, weight.to(y.dtype), bias)
        added = without_bias(layer, y) * gain
        return added if bias is None else added + along(bias, layer)

    def rows(self, start: int, stop: int) -> "IA3":
        vector = self.vector
        if not self.on_input:
            vector = vector[start:stop] if vector.ndim == 1 else vector[:, start:stop]
        return replace(self, vector=vector, bias=None if self.bias is None else self.bias[start:stop])

    def _dim(self, target: Shape) -> int:
        """The dimension of W that w goes along."""
        dim = 1 if self.on_input else 0
        if self.vector.numel() != target[dim]:
            side = "inputs" if dim else "outputs"
            raise ShapeMismatch(f"ia3: {self.vector.numel()} numbers for the {side}, of which a weight of {list(target)} has {target[dim]}")
        return dim
