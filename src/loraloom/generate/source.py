"""Pictures that drawing begins with: read from strangers' text, brought to the size of the drawing."""

import base64
import binascii
import io
import warnings
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

from loraloom.errors import SettingsError
from loraloom.generate.draw import Source
from loraloom.generate.request import MAX_SIDE, ImageRequest

_FORMATS = ("PNG", "JPEG", "WEBP")
_MAX_PIXELS = 64 * 2**20
_EIGHT = 8

if TYPE_CHECKING:
    Picture = Image.Image


def source(request: ImageRequest) -> Source | None:
    """What the request's pictures begin with, `width` × `height` pixels if it says so; None where they begin with noise.

    A picture of other proportions is scaled until it covers the size, and cut at both ends. Raises SettingsError for text that is no
    picture, and for one that is too large.
    """
    if request.image is None:
        return None
    image = decode(request.image, "image").convert("RGB")
    size = request.width or eights(image.width), request.height or eights(image.height)
    mask = None if request.mask is None else ImageOps.fit(decode(request.mask, "mask").convert("L"), size)
    return Source(ImageOps.fit(image, size, Image.Resampling.LANCZOS), mask, request.denoise)


def decode(text: str, name: str) -> "Picture":
    """The picture of base64 text or a data URI, upright, transparent places white. Raises SettingsError that begins with `name`."""
    body = text.partition(",")[2] if text.startswith("data:") else text
    try:
        content = base64.b64decode("".join(body.split()), validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's bomb limit: ours is below
            opened = Image.open(io.BytesIO(content), formats=_FORMATS)
            if opened.width * opened.height > _MAX_PIXELS or max(opened.size) > MAX_SIDE:
                raise SettingsError(
                    f"{name}: the picture has {opened.width}×{opened.height} pixels; at most {MAX_SIDE} a side and {_MAX_PIXELS} in all"
                )
            upright = ImageOps.exif_transpose(opened)
    except binascii.Error as error:
        raise SettingsError(f"{name}: not a picture; give a PNG, JPEG or WebP file as base64 or as a data URI ({error})") from error
    except UnidentifiedImageError as error:
        raise SettingsError(f"{name}: not a picture; give a PNG, JPEG or WebP file") from error
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise SettingsError(f"{name}: this picture is damaged ({error}); give a PNG, JPEG or WebP file") from error
    if not upright.has_transparency_data:
        return upright
    ground = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(ground, upright.convert("RGBA"))


def eights(side: int) -> int:
    """The nearest side that a drawing can have, in pixels."""
    return max(_EIGHT, round(side / _EIGHT) * _EIGHT)
