"""What the base makes of pictures and captions, computed once: latents and, while the text encoder rests, text embeddings.

Each picture and each caption is encoded alone, so that what a sample is does not depend on its company.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from loraloom.bases.sd1.model import Text
from loraloom.errors import TrainingError
from loraloom.lazy import torch
from loraloom.train import masks
from loraloom.train.chance import Sample
from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset, Picture
from loraloom.train.pictures import CENTRE, as_tensor, cut_at, fitted, open_picture
from loraloom.train.store import Store
from loraloom.train.view import View

if TYPE_CHECKING:
    from torch import Tensor

Posterior = tuple["Tensor", "Tensor"]  # mean and log-variance of the scaled latents, float32 [4, h, w] on the CPU


@dataclass(frozen=True)
class Encoder:
    """From a picture to the VAE's posterior, through the store."""

    view: View
    store: Store

    def posterior(self, picture: Picture, *, mirrored: bool) -> Posterior:
        """Of the picture cut around its centre. Raises TrainingError for a picture that encodes to NaN, or is not what was looked at."""
        shape = f"{picture.shape[0]}x{picture.shape[1]}"
        key = {"picture": picture.look.sha256, "shape": shape, "crop": "center", "mirrored": str(mirrored), "scale": _scale(self.view)}

        def make() -> "Mapping[str, Tensor]":
            mean, logvar = self.at(picture, CENTRE, mirrored=mirrored)
            if sha256(picture.path.read_bytes()).hexdigest() != picture.look.sha256:
                raise TrainingError(f"{picture.path} was changed while the run began; start it again")
            return {"mean": mean.contiguous(), "logvar": logvar.contiguous()}

        found = self.store.tensors("latents", key, make)
        return found["mean"], found["logvar"]

    def at(self, picture: Picture, place: tuple[float, float], *, mirrored: bool) -> Posterior:
        """Of the picture cut at a place (`pictures.fitted`), not kept."""
        pixels = as_tensor(fitted(open_picture(picture.path), picture.shape, place))
        found = self.view.encode(pixels.flip(-1) if mirrored else pixels)
        if not all(bool(part.isfinite().all()) for part in found):
            raise TrainingError(f"{picture.path}: the VAE makes NaN of it; load the base in float32")
        return found


def _scale(view: View) -> str:
    """What decides scaled latents besides weights."""
    config = getattr(view.frozen["vae"], "config", None)
    return f"{getattr(config, 'scaling_factor', None)} {getattr(config, 'shift_factor', None)}"


def _weights(picture: Picture, view: View, background: float, place: tuple[float, float]) -> "Tensor":
    """How much each latent of the picture, cut at a place, counts: [1, h, w]."""
    scale = view.pixels_per_latent
    if picture.mask is None:
        return torch.ones(1, picture.shape[1] // scale, picture.shape[0] // scale)
    mask = masks.open_mask(picture.mask, picture.path, picture.size)
    return masks.weights(mask, picture.shape, pixels_per_latent=scale, background=background, at=place)


@dataclass(frozen=True)
class Latents:
    """The VAE's posterior of every picture, and of its mirror image where asked for. With random crops there are too many to keep:
    each sample is encoded when it is drawn."""

    encoder: Encoder
    dataset: Dataset
    flip: bool
    random_crop: bool
    mask_background: float
    upright: Sequence[Posterior]  # empty with random crops
    mirrored: Sequence[Posterior]  # empty without flip
    masks: "Mapping[int, Tensor]"  # weights of the upright picture by its index; empty with random crops

    @classmethod
    def prepare(cls, view: View, dataset: Dataset, job: ResolvedConfig, store: Store, *, done: Callable[[int], None]) -> "Latents":
        """`done` hears how many pictures are ready. Raises TrainingError for a picture that encodes to NaN."""
        encoder, random = Encoder(view, store), job.crop == "random"
        upright, mirrored, found = [], [], {}
        for count, picture in enumerate(dataset.pictures, 1):
            if not random:
                upright.append(encoder.posterior(picture, mirrored=False))
                if job.flip:
                    mirrored.append(encoder.posterior(picture, mirrored=True))
                if picture.mask is not None:
                    found[count - 1] = _weights(picture, view, job.mask_background, CENTRE)
            done(count)
        return cls(encoder, dataset, job.flip, random, job.mask_background, upright, mirrored, found)

    def draw(self, sample: Sample) -> "Tensor":
        """Latents of this sample, float32 [4, h, w]: z = μ + σ ε."""
        mirrored = self._mirrored(sample)
        if self.random_crop:
            mean, logvar = self.encoder.at(self.dataset.pictures[sample.picture], self._place(sample), mirrored=mirrored)
        else:
            mean, logvar = (self.mirrored if mirrored else self.upright)[sample.picture]
        return mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=sample.generator("latent"))

    def weights(self, samples: Sequence[Sample]) -> "Tensor | None":
        """How much each place of these samples counts in the loss, float32 [n, 1, h, w]; None where all count alike."""
        if all(self.dataset.pictures[sample.picture].mask is None for sample in samples):
            return None
        return torch.stack([self._weights(sample) for sample in samples])

    def _weights(self, sample: Sample) -> "Tensor":
        kept = self.masks.get(sample.picture)
        if kept is None:
            picture = self.dataset.pictures[sample.picture]
            kept = _weights(picture, self.encoder.view, self.mask_background, self._place(sample))
        return kept.flip(-1) if self._mirrored(sample) else kept

    def sizes(self, samples: Sequence[Sample]) -> "Tensor":
        """What SDXL is told of pictures, int64 [n, 6] (Podell et al. 2023, §2.2): height and width as they were, top and left of the
        cut in the scaled picture, height and width of what was cut."""
        return torch.tensor([self._sizes(sample) for sample in samples])

    def _sizes(self, sample: Sample) -> tuple[int, ...]:
        picture = self.dataset.pictures[sample.picture]
        left, top = cut_at(picture.size, picture.shape, self._place(sample), mirrored=self._mirrored(sample))
        return (picture.size[1], picture.size[0], top, left, picture.shape[1], picture.shape[0])

    def _mirrored(self, sample: Sample) -> bool:
        return self.flip and sample.chance("flip") < 0.5

    def _place(self, sample: Sample) -> tuple[float, float]:
        return (sample.chance("crop across"), sample.chance("crop down")) if self.random_crop else CENTRE


class TextCache:
    """Text embeddings by caption, computed alone; `captions` are remembered, others (shuffled ones) are computed each time."""

    def __init__(self, view: View, captions: Iterable[str], store: Store) -> None:
        self._view, self._store = view, store
        self._known = {caption: self._kept(caption) for caption in dict.fromkeys(captions)}

    def embeddings(self, captions: Sequence[str]) -> Text:
        """Of n captions, on the base's device."""
        found = [self._known[caption] if caption in self._known else self._embed(caption) for caption in captions]
        pooled = [text.pooled for text in found if text.pooled is not None]
        return Text(torch.cat([text.embeddings for text in found]), torch.cat(pooled) if pooled else None)

    def _kept(self, caption: str) -> Text:
        ids = self._view.token_ids([caption])
        key = {"tokens": sha256(ids.cpu().numpy().tobytes()).hexdigest()}
        found = self._store.tensors("text", key, lambda: self._tensors(caption))
        pooled = found.get("pooled")
        device = self._view.device
        return Text(found["embeddings"].to(device), None if pooled is None else pooled.to(device))

    def _tensors(self, caption: str) -> "Mapping[str, Tensor]":
        return {name: part.cpu() for name, part in self._embed(caption)._asdict().items() if part is not None}

    def _embed(self, caption: str) -> Text:
        with torch.no_grad():
            return self._view.embed(self._view.token_ids([caption]))
