"""One picture from its file: opened, put on white, cut to a shape and scaled to it."""

import importlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from loraloom.errors import DatasetError
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_FORMATS = {
    "PNG",
    "JPEG",
    "MPO",
    "WEBP",
    "BMP",
    "DIB",
    "GIF",
    "TIFF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "TGA",
    "QOI",
    "HEIF",
    "JXL",
}  # Pillow's names
USUAL = (".png", ".jpg", ".jpeg", ".webp", ".avif")  # named where endings are said
MOST_PIXELS = 2**27  # 134 million: a photograph of 100 has them, and a small file that claims more is a trap
Shape = tuple[int, int]  # width, height in pixels
CENTRE = (0.5, 0.5)


@cache
def endings() -> frozenset[str]:
    """Endings of the pictures that Pillow, with the plug-ins that are installed, opens here."""
    for plugin, register in (("pillow_heif", "register_heif_opener"), ("pillow_jxl", None)):
        with suppress(ImportError):
            module = importlib.import_module(plugin)
            if register is not None:
                getattr(module, register)()
    Image.init()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in _FORMATS and name in Image.OPEN)


PLUGINS = {
    ".heic": "pillow-heif",
    ".heif": "pillow-heif",
    ".hif": "pillow-heif",
    ".jxl": "pillow-jxl-plugin",
    ".avif": "pillow-avif-plugin",
}
# Pictures and films that nothing here opens, so it is said that they are left out.
UNREAD = (
    *(".svg", ".psd", ".exr", ".hdr", ".ico", ".eps", ".pdf"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"),
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"),
)
_BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")


def is_unnamed(path: Path) -> bool:
    """Whether a file whose ending says nothing begins as a picture does. False for what cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            begin = file.read(12)
    except OSError:
        return False
    return begin.startswith(_BEGINNINGS) or (begin[:4] == b"RIFF" and begin[8:] == b"WEBP")


def open_picture(path: Path) -> Image.Image:
    """RGB, upright as its camera meant it, transparency on white; raises DatasetError that names the file."""
    return on_white(open_layers(path))


def open_layers(path: Path) -> Image.Image:
    """RGB, or RGBA where it has transparency, upright; of an animation the first frame. Raises DatasetError that names the file."""
    if path.is_symlink() and not path.exists():
        raise DatasetError(f"{path}: is a link to {path.readlink()}, which does not exist; mend the link or take it out of the folder")
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path}: is no file; take it out of the folder")
    endings()  # plug-ins are known to Pillow from here on
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
