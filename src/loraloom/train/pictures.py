"""One picture from its file: opened, put on white, cut to a square and scaled to the resolution."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from loraloom.errors import DatasetError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def open_picture(path: Path) -> Image.Image:
    """RGB, upright as its camera meant it, transparency on white; raises DatasetError that names the file."""
    try:
        with Image.open(path) as file:
            picture: Image.Image = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):  # 16 bits a channel: Pillow would clip instead of scaling
                picture = Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            return picture.convert("RGB")
    except UnidentifiedImageError as error:
        raise DatasetError(f"{path}: not a picture that can be opened; save it anew as PNG, or take it out of the folder") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: {error}; make it smaller") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
        raise DatasetError(f"{path}: damaged ({error}); save it anew or take it out of the folder") from error


def square(picture: Image.Image, side: int) -> Image.Image:
    """The largest square around the centre, scaled to `side` by Lanczos."""
    return ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)


def as_tensor(picture: Image.Image) -> "Tensor":
    """float32 [3, height, width] in -1..1."""
    values = torch.from_numpy(np.asarray(picture, dtype=np.float32).copy())
    return values.permute(2, 0, 1) / 127.5 - 1
