"""Enlarging without a model: Lanczos and Nearest."""

import base64

from PIL import Image, ImageOps
from pydantic import BaseModel, Field

from loraloom.bounds import Real, Text, Whole
from loraloom.errors import SettingsError
from loraloom.generate.source import decode
from loraloom.web import limits
from loraloom.web.api.sdapi.routes import router as _router
from loraloom.web.drawing import encoded

router = _router("enlarging")
UPSCALERS = {"None": Image.Resampling.LANCZOS, "Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
_PICTURES = 64


class Enlarging(BaseModel):
    """What the WebUI's clients send for one picture or several; faces and second upscalers are left out."""

    resize_mode: Whole | None = 0  # 0: by a factor, 1: to a size
    upscaling_resize: Real | None = 2
    upscaling_resize_w: Whole | None = 512
    upscaling_resize_h: Whole | None = 512
    upscaling_crop: bool | None = True
    upscaler_1: Text | None = "None"


class OnePicture(Enlarging):
    image: str


class NamedPicture(BaseModel):
    data: str
    name: Text = ""


class SeveralPictures(Enlarging):
    image_list: list[NamedPicture] = Field(alias="imageList")


class OneEnlarged(BaseModel):
    html_info: str
    image: str


class SeveralEnlarged(BaseModel):
    html_info: str
    images: list[str]


class UpscalerItem(BaseModel):
    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float = 4


class UpscaleMode(BaseModel):
    name: str


@router.get("/upscalers", summary="Upscalers")
def list_upscalers() -> list[UpscalerItem]:
    return [UpscalerItem(name=name) for name in UPSCALERS]


@router.get("/latent-upscale-modes", summary="Names that clients expect; enlarging while drawing (enable_hr) is refused")
def list_latent_upscale_modes() -> list[UpscaleMode]:
    return [UpscaleMode(name="Latent")]


@router.post("/extra-single-image", summary="Enlarge a picture")
def enlarge_one(body: OnePicture) -> OneEnlarged:
    return OneEnlarged(html_info="", image=_enlarged(body.image, body))


@router.post("/extra-batch-images", summary="Enlarge several pictures")
def enlarge_several(body: SeveralPictures) -> SeveralEnlarged:
    if len(body.image_list) > _PICTURES:
        raise SettingsError(f"imageList: {len(body.image_list)} pictures; at most {_PICTURES} at once")
    return SeveralEnlarged(html_info="", images=[_enlarged(each.data, body) for each in body.image_list])


def _enlarged(text: str, body: Enlarging) -> str:
    """Raises SettingsError for an unknown upscaler, for what is no picture, and for a size beyond the server's limit."""
    method = UPSCALERS.get(body.upscaler_1 or "None")
    if method is None:
        raise SettingsError(f'no upscaler "{(body.upscaler_1 or "")[:200]}"; there are {", ".join(UPSCALERS)}')
    image = decode(text, "image").convert("RGB")
    factor = body.upscaling_resize or 1
    size = (image.width * factor, image.height * factor) if not body.resize_mode else (body.upscaling_resize_w, body.upscaling_resize_h)
    wide, high = (min(max(0, side or 0), limits.PIXELS) for side in size)
    if not 1 <= wide * high <= limits.PIXELS * 4:
        raise SettingsError(f"the enlarged picture would have {wide:g}×{high:g} pixels; at least one, at most {limits.PIXELS * 4} in all")
    target = max(1, round(wide)), max(1, round(high))
    fitted = body.resize_mode and body.upscaling_crop
    enlarged = ImageOps.fit(image, target, method) if fitted else image.resize(target, method)
    return base64.b64encode(encoded(enlarged)).decode()
