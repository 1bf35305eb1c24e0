"""Sample pictures of a run: one labelled row for each time they are drawn."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from loraloom.atomic import replacing
from loraloom.errors import WriteFailed
from loraloom.lorafile import LoraFile

Draw = Callable[[LoraFile, Sequence[str], int], Sequence[Image.Image]]  # network, prompts, seed -> one picture a prompt

_TILE = 192  # pixels; smaller pictures are enlarged so that a label fits under them
_LABEL, _MARGIN = 30, 6


def row(pictures: Sequence[Image.Image], labels: Sequence[str]) -> Image.Image:
    """The pictures beside one another, each with its label under it."""
    tiles = [_enlarged(picture.convert("RGB")) for picture in pictures]
    width = sum(tile.width + _MARGIN for tile in tiles) + _MARGIN
    sheet = Image.new("RGB", (width, max(tile.height for tile in tiles) + _LABEL + 2 * _MARGIN), "white")
    pen, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(12), _MARGIN
    for tile, label in zip(tiles, labels, strict=True):
        sheet.paste(tile, (left, _MARGIN))
        while label and pen.textlength(label, font) > tile.width:
            label = label.removesuffix("…")[:-1] + "…" if len(label) > 1 else ""
        pen.text((left, tile.height + 2 * _MARGIN), label, fill="black", font=font)
        left += tile.width + _MARGIN
    return sheet


def _enlarged(picture: Image.Image) -> Image.Image:
    times = max(1, -(-_TILE // picture.width))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def save_row(folder: Path, step: int, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Path:
    """`step-000100.png` in `folder`; raises WriteFailed."""
    path = folder / f"step-{step:06d}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            row(pictures, [f"{step}: {prompt}" for prompt in prompts]).save(temporary, format="png")
    except OSError as error:
        raise WriteFailed(f"{path}: sample pictures could not be written: {error.strerror or error}") from error
    return path
