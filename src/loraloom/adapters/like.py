"""What a layer would give with another weight: its own stride, padding, groups and shape, its parameters replaced."""

from typing import TYPE_CHECKING

from loraloom.errors import NotSupported
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def like(layer: "Module", x: "Tensor", weight: "Tensor", bias: "Tensor | None" = None) -> "Tensor":
    """The output of `layer` for x with `weight` and `bias` in place of its own. Linear in both, for every kind of layer.

    Raises NotSupported for a layer of another class than Linear, Conv2d, LayerNorm, GroupNorm, RMSNorm and Embedding.
    """
    functional = torch.nn.functional
    if isinstance(layer, torch.nn.Linear):
        return functional.linear(x, weight, bias)
    if isinstance(layer, torch.nn.Conv2d):
        convolved: Tensor = layer._conv_forward(x, weight, bias)
        return convolved
    if isinstance(layer, torch.nn.LayerNorm):
        return functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    if isinstance(layer, torch.nn.GroupNorm):
        return functional.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    if isinstance(layer, torch.nn.RMSNorm):
        scaled = functional.rms_norm(x, layer.normalized_shape, weight, layer.eps)
        return scaled if bias is None else scaled + bias
    if isinstance(layer, torch.nn.Embedding):
        return functional.embedding(x, weight)
    raise NotSupported(
        f'{type(layer).__name__}: what it gives with other weights is not known, so nothing runs beside it; use mode="merge"'
    )


def along(values: "Tensor", layer: "Module") -> "Tensor":
    """[channels] in the place of the channels of what `layer` takes and gives: last, but for a convolution."""
    return values[:, None, None] if isinstance(layer, torch.nn.Conv2d | torch.nn.GroupNorm) else values


def without_bias(layer: "Module", y: "Tensor") -> "Tensor":
    """y = layer(x) less the layer's own bias."""
    bias: Tensor | None = getattr(layer, "bias", None)
    return y if bias is None else y - along(bias.to(y), layer)
