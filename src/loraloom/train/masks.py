"""Masks: where the loss of a picture counts. White counts whole, black as little as the job says.

A mask is the picture's own transparency, `cat.mask.png` beside `cat.png`, or a file of the same name in a folder of masks.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from loraloom.errors import DatasetError
from loraloom.home import expanded
from loraloom.lazy import torch
from loraloom.train.pictures import CENTRE, Shape, endings, open_layers

if TYPE_CHECKING:
    from torch import Tensor

ALPHA, BESIDE = "alpha", "beside"
_MARK = ".mask"
_ASPECT = 0.02  # relative difference of shapes that rounding explains


def is_mask(path: Path) -> bool:
    """By its name: `cat.mask.png`. Such a file is never a picture to train on."""
    return path.stem.endswith(_MARK)


@dataclass(frozen=True)
class Masks:
    """Where masks stand. Raises DatasetError for a folder that is not there."""

    where: str  # ALPHA, BESIDE, a folder, or nothing

    def __post_init__(self) -> None:
        if self.where not in ("", ALPHA, BESIDE) and not expanded(self.where).is_dir():
            raise DatasetError(f"masks: {self.where} is no folder; give one, or {ALPHA} or {BESIDE}")

    def of(self, picture: Path, *, transparent: bool) -> Path | None:
        """The file that holds the mask of a picture: itself for transparency."""
        if not self.where:
            return None
        if self.where == ALPHA:
            return picture if transparent else None
        folder, stem = (picture.parent, picture.stem + _MARK) if self.where == BESIDE else (expanded(self.where), picture.stem)
        return next(
            (
                path
                for ending in sorted(endings(), key=lambda ending: (ending != ".png", ending))
                if (path := folder / f"{stem}{ending}").is_file()
            ),
            None,
        )


def open_mask(path: Path, picture: Path, size: Shape) -> Image.Image:
    """Grey, of the picture's size; raises DatasetError for one that cannot be opened or has another shape."""
    layers = open_layers(path)
    if path == picture:
        return layers.getchannel("A")
    if layers.mode == "RGBA":
        layers = Image.alpha_composite(Image.new("RGBA", layers.size, "black"), layers)
    if abs(layers.width * size[1] / (layers.height * size[0]) - 1) > _ASPECT:
        theirs, ours = (f"{width}×{height}" for width, height in (layers.size, size))
        raise DatasetError(f"{path}: the mask is {theirs}, its picture {picture.name} is {ours}; make them the same shape")
    return layers.convert("L").resize(size, Image.Resampling.BOX)


def is_black(mask: Image.Image) -> bool:
    return mask.getextrema() == (0, 0)


def weights(mask: Image.Image, shape: Shape, *, pixels_per_latent: int, background: float, at: tuple[float, float] = CENTRE) -> "Tensor":
    """How much each latent counts, float32 [1, h, w] in background..1: the mean of the mask over the latent's pixels.

    The mask is cut as the picture is (`pictures.fitted`).
    """
    latents = (shape[0] // pixels_per_latent, shape[1] // pixels_per_latent)
    cut = ImageOps.fit(mask, latents, Image.Resampling.BOX, centering=at)
    return background + (1 - background) * torch.from_numpy(np.asarray(cut, dtype=np.float32) / 255)[None]
