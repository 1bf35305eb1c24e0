"""An adapter's tensors as a file holds them so that every tool reads the same change: what `quirks.mend` undoes when it reads.

- alpha is the only number and always there: LyCORIS 4.1 cannot open a network without it, and ComfyUI and InvokeAI know neither
  `scale` nor `scalar`.
- A free rotation has the alpha FREE. 0 means free to LyCORIS and ComfyUI alone: sd-scripts and SD.Next clamp the rotation to
  alpha times the outputs, so to nothing.
- DoRA's vector has the weight's dimensions. A flat one stops ComfyUI and LyCORIS.
"""

from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.bases import Layer
from loraloom.dialects.quirks import FREE, magnitude_shape
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def stored(adapter: Adapter, layer: Layer) -> "dict[str, Tensor]":
    """The tensors by our suffix, of the same change of the layer's weight."""
    own = adapter.by_alpha().tensors()
    if "oft_blocks" in own and is_free(own):
        own["alpha"] = torch.tensor(FREE)
    if "dora_scale" in own:
        vector = own["dora_scale"]
        own["dora_scale"] = vector.reshape(magnitude_shape(tuple(vector.shape), layer.shape))
    return own


def is_free(own: "dict[str, Tensor]") -> bool:
    """Whether the rotation of these tensors is not clamped."""
    return "alpha" not in own or not 0 < float(own["alpha"]) < FREE
