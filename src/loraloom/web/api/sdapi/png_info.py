"""POST /sdapi/v1/png-info: the recipe that a picture carries."""

import base64
import binascii
import io
from typing import Any

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, Field

from loraloom.errors import SettingsError
from loraloom.generate.infotext import Recipe
from loraloom.schedule import number
from loraloom.web.api.sdapi.routes import router as _router

router = _router("recipes")
_KEY = "parameters"
_TEXT = 200_000  # characters that are read


class PngInfoRequest(BaseModel):
    image: str = Field(min_length=1)  # base64, with or without data:image/...;base64,


class PngInfoAnswer(BaseModel):
    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


@router.post("/png-info", summary="The recipe of a picture")
def png_info(body: PngInfoRequest) -> PngInfoAnswer:
    """`info` is empty for a picture without one; `items` are its other texts, `parameters` the recipe by its keys."""
    texts = {name: value[:_TEXT] for name, value in _texts(body.image).items()}
    info = texts.pop(_KEY, "")
    return PngInfoAnswer(info=info, items=texts, parameters=_parameters(Recipe.parse(info)) if info else {})


def _texts(image: str) -> dict[str, str]:
    """Every text in the picture's header. Raises SettingsError if it is none. No pixel is decoded."""
    content = image.partition(",")[2] if image.startswith("data:") else image
    try:
        with Image.open(io.BytesIO(base64.b64decode("".join(content.split()), validate=True)), formats=("PNG", "JPEG", "WEBP")) as opened:
            return {str(name): value for name, value in opened.info.items() if isinstance(value, str)}
    except (binascii.Error, ValueError, UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise SettingsError("image: not a picture; send a PNG, JPEG or WebP file as base64") from error


def _parameters(recipe: Recipe) -> dict[str, Any]:
    """In the WebUI's keys; numbers as text, as it has them."""
    found = {
        "Prompt": recipe.prompt,
        "Negative prompt": recipe.negative_prompt,
        "Steps": str(recipe.steps),
        "Sampler": recipe.sampler,
        "CFG scale": "" if recipe.guidance is None else number(recipe.guidance),
        "Seed": str(recipe.seed),
        "Size-1": str(recipe.width),
        "Size-2": str(recipe.height),
        "Model": recipe.model,
        "Lora hashes": ", ".join(f"{name}: {digest}" for name, digest in recipe.lora_hashes.items()),
    }
    return {name: value for name, value in found.items() if value} | dict(recipe.extra)
