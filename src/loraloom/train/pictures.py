"""One picture from its file: opened, put on white, cut to a shape and scaled to it."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from loraloom.errors import DatasetError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MOST_PIXELS = 2**27  # 134 million: a photograph of 100 has them, and a small file that claims more is a trap
Shape = tuple[int, int]  # width, height in pixels
CENTRE = (0.5, 0.5)


def open_picture(path: Path) -> Image.Image:
    """RGB, upright as its camera meant it, transparency on white; raises DatasetError that names the file."""
    return on_white(open_layers(path))


def open_layers(path: Path) -> Image.Image:
    """RGB, or RGBA where it has transparency, upright; of an animation the first frame. Raises DatasetError that names the file."""
    try:
        with Image.open(path) as file:
            if file.width * file.height > MOST_PIXELS:
                raise DatasetError(f"{path}: {file.width}×{file.height} pixels, the limit is {MOST_PIXELS:,} in all; make it smaller")
            picture: Image.Image = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):  # 16 bits a channel: Pillow would clip instead of scaling
                picture = Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except UnidentifiedImageError as error:
        raise DatasetError(f"{path}: not a picture that can be opened; save it anew as PNG, or take it out of the folder") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: {error}; make it smaller") from error
    except PermissionError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}; check its permissions") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
        raise DatasetError(f"{path}: damaged ({error}); save it anew or take it out of the folder") from error


def on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def fitted(picture: Image.Image, shape: Shape, at: tuple[float, float] = CENTRE) -> Image.Image:
    """The largest part of this shape, scaled by Lanczos; `at` says where it lies: (0, 0) left and top, (1, 1) right and bottom."""
    return ImageOps.fit(picture, shape, Image.Resampling.LANCZOS, centering=at)


def cut_at(size: Shape, shape: Shape, at: tuple[float, float] = CENTRE, *, mirrored: bool = False) -> tuple[int, int]:
    """Left and top of what `fitted` keeps, in pixels of the scaled picture; of a mirrored one counted from its own left."""
    scale = max(shape[0] / size[0], shape[1] / size[1])
    over = (size[0] * scale - shape[0], size[1] * scale - shape[1])
    across = 1 - at[0] if mirrored else at[0]
    return round(over[0] * across), round(over[1] * at[1])


def as_tensor(picture: Image.Image) -> "Tensor":
    """float32 [3, height, width] in -1..1."""
    values = torch.from_numpy(np.asarray(picture, dtype=np.float32).copy())
    return values.permute(2, 0, 1) / 127.5 - 1
