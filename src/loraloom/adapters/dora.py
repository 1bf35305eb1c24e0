"""DoRA: delta = m ∘ V/‖V‖ − W with V = W + the inner type's delta.  Liu et al. 2024, arXiv:2402.09353.

‖V‖ is taken of each output row (the paper, LyCORIS from 3.2, PEFT) or of each input column (older LyCORIS, an option of
OneTrainer); the shape of m says which. V has the untouched base and the inner type at strength 1, whatever the strength is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from loraloom.adapters.base import NotExact, Shape, key
from loraloom.adapters.like import along, like, without_bias
from loraloom.adapters.wrapper import Wrapper
from loraloom.errors import BadTensor
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Axis = Literal["output", "input"]


@dataclass(frozen=True, eq=False)
class DoRA(Wrapper):
    tag: ClassVar[str] = "dora"
    reads_weight: ClassVar[bool] = True
    undecayed: ClassVar[frozenset[str]] = frozenset({"magnitude"})

    magnitude: "Tensor" = key("dora_scale")  # [out, 1, ...] or [1, in, ...]
    gain: "Tensor | None" = field(default=None, kw_only=True)  # m/‖V‖, where it was worked out for one weight

    @classmethod
    def check(cls, shapes: Mapping[str, Shape]) -> None:
        super().check(shapes)
        shape = shapes["dora_scale"]
        if not shape or math.prod(shape) != max(shape) or max(shape[2:], default=1) != 1:
            raise BadTensor(f"{cls.name}: dora_scale {list(shape)} is not one number for each output or each input")

    @classmethod
    def misfit(cls, shapes: Mapping[str, Shape], target: Shape) -> str | None:
        given = shapes["dora_scale"]
        if axis(given, target) is None:
            return f"dora_scale {list(given)} is one number for neither the {target[0]} outputs nor the {target[1]} inputs"
        return super().misfit(shapes, target)

    @classmethod
    def init(
        cls,
        weight: "Tensor",
        *,
        rank: int,
        alpha: float,
        generator: "torch.Generator | None" = None,
        on_input: bool = False,
        **options: Any,
    ) -> "DoRA":
        """The inner type's own beginning and the magnitudes that W has; of the inputs' columns with `on_input`."""
        inner: Any = cls.inner_type
        magnitude = _norm(weight.detach().float(), "input" if on_input else "output")
        return cls(inner=inner.init(weight, rank=rank, alpha=alpha, generator=generator, **options), magnitude=magnitude)

    def delta(self, weight: "Tensor") -> "Tensor":
        changed = weight.float() + self.inner.delta(weight)
        return changed * self._gain(weight, changed) - weight.float()

    def bound(self, weight: "Tensor") -> "DoRA":
        gain = self._gain(weight, weight.float() + self.inner.delta(weight))
        return replace(self, inner=self.inner.bound(weight), gain=gain)

    def branch(self, layer: "Module", x: "Tensor", y: "Tensor") -> "Tensor":
        weight: Tensor = layer.weight  # type: ignore[assignment]
        gain = self.gain
        if gain is None:
            gain = self._gain(weight, weight.float() + self.inner.delta(weight))
        gain = gain.to(y.device, y.dtype)
        inner = replace(self.inner, bias=None)
        if gain.shape[0] == len(weight) and gain.numel() == len(weight):
            factor = along(gain.flatten(), layer)
            added = (factor - 1) * without_bias(layer, y) + factor * inner.branch(layer, x, y)
        else:
            scaled = x * along(gain.flatten(), layer)
            own: Tensor | None = layer.bias  # type: ignore[assignment]
            turned = like(layer, scaled, weight.to(y.dtype), own)
            added = turned - y + inner.branch(layer, scaled, turned)
        bias = self.inner.bias
        return added if bias is None else added + along(bias.to(y.device, y.dtype), layer)

    def rows(self, start: int, stop: int) -> "DoRA":
        if self.magnitude.ndim > 1 and self.magnitude.shape[1] != 1:
            raise NotExact(f"{self.name}: magnitudes of input columns are norms over all rows; rows {start} to {stop} cannot be cut out")
        return replace(self, inner=self.inner.rows(start, stop), magnitude=self.magnitude[start:stop])

    def _gain(self, weight: "Tensor", changed: "Tensor") -> "Tensor":
        """m/‖V‖, broadcasting over V. As in the paper (§4.3) and in PEFT no gradient goes through ‖V‖: a third less memory to train."""
        which = axis(tuple(self.magnitude.shape), tuple(weight.shape))
        if which is None:
            raise BadTensor(f"{self.name}: dora_scale {list(self.magnitude.shape)} does not fit a weight of {list(weight.shape)}")
        norm = _norm(changed.detach(), which)
        return self.magnitude.to(weight.device, torch.float32).reshape(norm.shape) / norm


def axis(magnitude: Shape, target: Shape) -> Axis | None:
    """Whose norms these are on a weight of shape `target`; None if nobody's. A flat vector goes by its length, outputs first."""
    length, flat = math.prod(magnitude), len(magnitude) == 1
    if length == target[0] and (flat or magnitude[0] == length):
        return "output"
    return "input" if len(target) > 1 and length == target[1] and (flat or magnitude[1] == length) else None


def _norm(weight: "Tensor", which: Axis) -> "Tensor":
    """The norms of rows or columns, not smaller than the least float32 step at 1, as a weight of zeros has none."""
    over = [dim for dim in range(weight.ndim) if dim != (0 if which == "output" else 1)]
    norms: Tensor = torch.linalg.vector_norm(weight, dim=over, keepdim=True)
    return norms.clamp_min(torch.finfo(torch.float32).eps)
