"""What the trainer needs from a base model, and which class of `bases` gives it for each family."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from loraloom.bases import Base
from loraloom.bases.sd1.model import StableDiffusion, Text
from loraloom.bases.sdxl.model import StableDiffusionXL
from loraloom.errors import NotSupported
from loraloom.train.loss import Prediction

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module


class View(Protocol):
    """A pipeline as the trainer sees it; see `bases.sd1.model.StableDiffusion` for what each part promises."""

    @property
    def pipeline(self) -> Any: ...
    @property
    def components(self) -> "Mapping[str, Module]": ...
    @property
    def frozen(self) -> "Mapping[str, Module]": ...
    @property
    def device(self) -> "torch.device": ...
    @property
    def dtype(self) -> "torch.dtype": ...
    @property
    def prediction(self) -> Prediction: ...
    @property
    def pixels_per_latent(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def alphas_cumprod(self) -> "Tensor": ...
    def tokens_cut(self, caption: str) -> int: ...
    def token_ids(self, captions: Sequence[str]) -> "Tensor": ...
    def embed(self, token_ids: "Tensor") -> Text: ...
    def encode(self, picture: "Tensor") -> "tuple[Tensor, Tensor]": ...
    def denoise(self, noisy: "Tensor", timesteps: "Tensor", text: Text, sizes: "Tensor | None" = None) -> "Tensor": ...


VIEWS: Mapping[str, Callable[[Any], View]] = {
    "tiny": StableDiffusion,
    "sd1": StableDiffusion,
    "sd2": StableDiffusion,
    "sdxl": StableDiffusionXL,
    "nano": StableDiffusion,
    "nanov": StableDiffusion,
    "nanoxl": StableDiffusionXL,
}


def view(pipeline: Any, base: Base) -> View:
    """Raises NotSupported for a family without a view."""
    if base.family not in VIEWS:
        raise NotSupported(f"training {base.title} is not possible yet; families that train are {', '.join(VIEWS)}")
    return VIEWS[base.family](pipeline)
