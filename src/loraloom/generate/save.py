"""Pictures on the disk: PNG with the recipe inside, complete or not there at all, and never over another picture."""

import os
import re
import unicodedata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.PngImagePlugin import PngInfo

from loraloom.atomic import make_folder, replacing, take_name, written_beside
from loraloom.leftovers import forget_leftovers

if TYPE_CHECKING:
    from PIL.Image import Image

_NUMBER = re.compile(r"([0-9]+)-.*")
_MAX_SLUG = 48  # characters


def save_png(image: "Image", path: str | Path, text: str, *, key: str = "parameters", overwrite: bool = False) -> Path:
    """Write atomically: a temporary file in the same folder, fsync, then its name. Raises WriteFailed, with nothing changed on the
    disk, if that fails. Without `overwrite` a file that is there stays: Taken says under which name the picture was kept."""
    path = Path(path)
    with replacing(path, overwrite=overwrite) as temporary:
        _write(temporary, png_bytes(image, text, key=key))
    return path


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def png_bytes(image: "Image", text: str, *, key: str = "parameters") -> bytes:
    """The picture as PNG, with `text` under `key` in its text chunks."""
    info = PngInfo()
    info.add_text(key, text)
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def save_numbered(image: "Image", folder: str | Path, title: str, text: str, *, key: str = "parameters") -> Path:
    """Save as `0001-a-castle-at-night.png` in `folder`, made if it is missing, with the first number above all that are there."""
    folder = Path(folder)
    make_folder(folder)
    forget_leftovers(folder)
    number = 1 + max((int(found[1]) for item in folder.iterdir() if (found := _NUMBER.fullmatch(item.name))), default=0)
    with written_beside(folder / f"{slug(title)}.png") as temporary:
        _write(temporary, png_bytes(image, text, key=key))
        while True:
            path = folder / f"{number:04}-{slug(title)}.png"
            try:
                take_name(temporary, path)
            except FileExistsError:
                number += 1  # another process was faster
            else:
                return path


def slug(title: str) -> str:
    """Letters and digits of a title, in lower case, with hyphens: safe as a file name everywhere."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", title).replace("_", " ").lower())
    joined = "-".join(words)[:_MAX_SLUG]
    # Bytes count in file systems, and scripts other than Latin take three or four of them for each letter.
    return joined.encode()[:160].decode(errors="ignore").strip("-") or "picture"
