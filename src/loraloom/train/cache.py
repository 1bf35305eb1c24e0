"""What the base makes of pictures and captions, computed once: latents and, while the text encoder rests, text embeddings.

Each picture and each caption is encoded alone, so that what a sample is does not depend on its company.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.bases.sd1.model import Text
from loraloom.errors import TrainingError
from loraloom.lazy import torch
from loraloom.train.chance import Sample
from loraloom.train.dataset import Dataset
from loraloom.train.pictures import as_tensor, open_picture, square
from loraloom.train.view import View

if TYPE_CHECKING:
    from torch import Tensor

Posterior = tuple["Tensor", "Tensor"]  # mean and log-variance of the scaled latents, float32 [4, h, w] on the CPU


@dataclass(frozen=True)
class Latents:
    """The VAE's posterior of every picture, and of its mirror image where asked for."""

    upright: Sequence[Posterior]
    mirrored: Sequence[Posterior]  # empty without flip

    @classmethod
    def encode(cls, view: View, dataset: Dataset, resolution: int, *, flip: bool, done: Callable[[int], None]) -> "Latents":
        """`done` hears how many pictures are ready. Raises TrainingError for a picture that encodes to NaN."""
        upright, mirrored = [], []
        for count, picture in enumerate(dataset.pictures, 1):
            pixels = as_tensor(square(open_picture(picture.path), resolution))
            upright.append(view.encode(pixels))
            if flip:
                mirrored.append(view.encode(pixels.flip(-1)))
            if not all(bool(part.isfinite().all()) for part in upright[-1]):
                raise TrainingError(f"{picture.path}: the VAE makes NaN of it; load the base in float32")
            done(count)
        return cls(upright, mirrored)

    def draw(self, sample: Sample) -> "Tensor":
        """Latents of this sample, float32 [4, h, w]: z = μ + σ ε."""
        flipped = bool(self.mirrored) and sample.chance("flip") < 0.5
        mean, logvar = (self.mirrored if flipped else self.upright)[sample.picture]
        return mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=sample.generator("latent"))


class TextCache:
    """Text embeddings by caption, computed alone; `captions` are remembered, others (shuffled ones) are computed each time."""

    def __init__(self, view: View, captions: Iterable[str]) -> None:
        self._view = view
        self._known = {caption: self._embed(caption) for caption in dict.fromkeys(captions)}

    def embeddings(self, captions: Sequence[str]) -> Text:
        """Of n captions, on the base's device."""
        found = [self._known[caption] if caption in self._known else self._embed(caption) for caption in captions]
        pooled = [text.pooled for text in found if text.pooled is not None]
        return Text(torch.cat([text.embeddings for text in found]), torch.cat(pooled) if pooled else None)

    def _embed(self, caption: str) -> Text:
        with torch.no_grad():
            return self._view.embed(self._view.token_ids([caption]))
