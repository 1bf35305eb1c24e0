"""Pictures on the disk: PNG with the recipe inside, complete or not there at all, and never over another picture."""

import errno
import os
import re
import tempfile
import unicodedata
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.PngImagePlugin import PngInfo

from loraloom.errors import WriteFailed

if TYPE_CHECKING:
    from PIL.Image import Image

_NUMBER = re.compile(r"([0-9]+)-.*")
_MAX_SLUG = 48  # characters


def save_png(image: "Image", path: str | Path, text: str, *, key: str = "parameters", overwrite: bool = False) -> Path:
    """Write atomically: a temporary file in the same folder, fsync, then its name. Raises WriteFailed, with nothing changed on
    the disk, if that fails or if `path` is there already and `overwrite` is not set."""
    path = Path(path)
    content = png_bytes(image, text, key=key)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".partial", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        if overwrite:
            temporary.replace(path)
        else:
            _name(temporary, path)
    except FileExistsError as error:
        raise WriteFailed(
            f"{path} is there already and was not touched; give another name, or overwrite it", fields=("overwrite",)
        ) from error
    except OSError as error:
        raise WriteFailed(f"{path}: could not be written: {error.strerror or error}; {_advice(error)}. Nothing half is left") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


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
    number = 1 + max((int(found[1]) for item in folder.iterdir() if (found := _NUMBER.fullmatch(item.name))), default=0)
    while True:
        path = folder / f"{number:04}-{slug(title)}.png"
        try:
            return save_png(image, path, text, key=key)
        except WriteFailed as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            number += 1  # another process was faster


def make_folder(folder: Path) -> None:
    """The folder is there and can be written to afterwards, or WriteFailed; better before the drawing than after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteFailed(f"{folder}: this folder could not be made: {error.strerror or error}; {_advice(error)}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteFailed(f"{folder}: this folder cannot be written to; check its permissions")


def slug(title: str) -> str:
    """Letters and digits of a title, in lower case, with hyphens: safe as a file name everywhere."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", title).replace("_", " ").lower())
    joined = "-".join(words)[:_MAX_SLUG]
    # Bytes count in file systems, and scripts other than Latin take three or four of them for each letter.
    return joined.encode()[:160].decode(errors="ignore").strip("-") or "picture"


def _name(temporary: Path, path: Path) -> None:
    """Give the finished file its name; FileExistsError if that is taken."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: look first, and live with the moment in between
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
        temporary.replace(path)


def _advice(error: OSError) -> str:
    return "free some space and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the folder and its permissions"
