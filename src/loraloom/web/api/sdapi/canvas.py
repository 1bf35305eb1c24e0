"""What a picture is drawn over: the WebUI's ways to bring picture and mask to size, and the finished part back into its place."""

import base64
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter, ImageOps

from loraloom.errors import SettingsError
from loraloom.generate.source import decode, eights
from loraloom.web import limits
from loraloom.web.api.sdapi.body import ImageToImage
from loraloom.web.drawing import encoded

_LANCZOS = Image.Resampling.LANCZOS
_SPREAD = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))  # radius of a blur, and how often it is laid over: the WebUI's own
_BLUR = 256  # pixels, at most
_Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Patch:
    """Puts a drawing back into the picture that it was drawn over.

    It keeps the request's own files: a picture of 8192×8192 with its mask has 320 MB of pixels, and may come in 0.4 MB.
    """

    picture: str
    mask: str
    inverted: bool
    blur: tuple[int, int]
    padding: int | None  # around what is drawn, if that is a part of the picture only
    resize_mode: int
    size: tuple[int, int]  # of the drawing

    @classmethod
    def of(cls, body: ImageToImage, size: tuple[int, int]) -> "Patch":
        across, down = (body.mask_blur_x, body.mask_blur_y) if body.mask_blur is None else (body.mask_blur, body.mask_blur)
        return cls(
            picture=(body.init_images or [""])[0],
            mask=body.mask or "",
            inverted=bool(body.inpainting_mask_invert),
            blur=(_radius(across), _radius(down)),
            padding=max(0, body.inpaint_full_res_padding or 0) if body.inpaint_full_res else None,
            resize_mode=body.resize_mode or 0,
            size=size,
        )

    @property
    def nbytes(self) -> int:
        return len(self.picture) + len(self.mask)

    def laid_out(self) -> tuple[Image.Image, Image.Image, _Box]:
        """The picture and how much of the drawing shows at each place, both of the result's size, and the drawing's place in them."""
        image = decode(self.picture, "init_images").convert("RGB")
        mask = ImageOps.fit(decode(self.mask, "mask").convert("L"), image.size)
        soft = (ImageChops.invert(mask) if self.inverted else mask).filter(ImageFilter.GaussianBlur(self.blur))
        if self.padding is not None and (part := soft.getbbox()):
            return image, soft, _part(part, image.size, self.size, self.padding)
        return _resized(image, self.size, self.resize_mode), _resized(soft, self.size, self.resize_mode), (0, 0, *self.size)

    def finish(self, drawn: Image.Image) -> Image.Image:
        """What was drawn, and around the mask what was there, pixel for pixel."""
        original, soft, (left, top, right, bottom) = self.laid_out()
        whole = original.copy()
        whole.paste(drawn.convert("RGB").resize((right - left, bottom - top), _LANCZOS), (left, top))
        return Image.composite(whole, original, soft)


@dataclass(frozen=True)
class Canvas:
    """What drawing begins with. `image` and `mask` have the size of the drawing."""

    image: Image.Image
    mask: Image.Image | None = None
    patch: Patch | None = None  # where there is a mask

    @classmethod
    def of(cls, body: ImageToImage) -> "Canvas":
        """From a request's first picture and its mask. Raises SettingsError for what is no picture."""
        if not body.init_images:
            raise SettingsError("init_images: img2img needs a picture to begin with")
        image = decode(body.init_images[0], "init_images").convert("RGB")
        size = _size(body, image)
        if not body.mask:
            return cls(_resized(image, size, body.resize_mode or 0))
        del image
        patch = Patch.of(body, size)
        original, soft, box = patch.laid_out()
        begin = _spread(original, soft) if body.inpainting_fill == 0 else original
        return cls(begin.crop(box).resize(size, _LANCZOS), soft.crop(box).resize(size, _LANCZOS), patch)


def as_text(image: Image.Image) -> str:
    """A picture as a request carries it."""
    return base64.b64encode(encoded(image)).decode()


def _resized(image: Image.Image, size: tuple[int, int], mode: int) -> Image.Image:
    if mode == 1:
        return ImageOps.fit(image, size, _LANCZOS)
    if mode == 2:
        return ImageOps.pad(image, size, _LANCZOS)
    return image.resize(size, _LANCZOS)


def _part(part: _Box, whole: tuple[int, int], size: tuple[int, int], padding: int) -> _Box:
    """The box around `part` with its padding, widened to the proportions of the drawing as far as the picture goes."""
    left, top, right, bottom = part[0] - padding, part[1] - padding, part[2] + padding, part[3] + padding
    left, top, right, bottom = max(0, left), max(0, top), min(whole[0], right), min(whole[1], bottom)
    wide, high = right - left, bottom - top
    wide, high = max(wide, round(high * size[0] / size[1])), max(high, round(wide * size[1] / size[0]))
    left, right = _widened(left, right, wide, whole[0])
    top, bottom = _widened(top, bottom, high, whole[1])
    return left, top, right, bottom


def _widened(low: int, high: int, wanted: int, most: int) -> tuple[int, int]:
    wanted = min(wanted, most)
    low = min(max(0, low - (wanted - (high - low)) // 2), most - wanted)
    return low, low + wanted


def _spread(image: Image.Image, mask: Image.Image) -> Image.Image:
    """What is around the mask flows into it, softer and softer: the masked place begins with fitting colours."""
    around = Image.new("RGBa", image.size)
    around.paste(image.convert("RGBA").convert("RGBa"), mask=ImageChops.invert(mask))
    filled = Image.new("RGBA", image.size)
    for radius, times in _SPREAD:
        blurred = around.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            filled.alpha_composite(blurred)
    return filled.convert("RGB")


def _size(body: ImageToImage, image: Image.Image) -> tuple[int, int]:
    """Of the drawing, checked before anything of this size is made. Raises SettingsError."""
    wide, high = body.width or eights(image.width), body.height or eights(image.height)
    if min(wide, high) < 8 or wide * high > limits.PIXELS:
        raise SettingsError(f"width × height: {wide}×{high}; at least 8 a side, at most {limits.PIXELS} pixels in all")
    return wide, high


def _radius(blur: int | None) -> int:
    return min(max(0, blur or 0), _BLUR)
