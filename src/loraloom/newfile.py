"""Where a new LoRA file goes: under a bare name into the library, where a prompt finds it; under a path exactly there."""

import os
from collections.abc import Iterable
from pathlib import Path

from loraloom.errors import SettingsError
from loraloom.filenames import SUFFIX
from loraloom.home import expanded
from loraloom.settings import Settings

_OTHERS = (".pt", ".pth", ".ckpt", ".bin")  # endings of other formats: a name that has one is not completed


def writable_folders(settings: Settings, more: Iterable[Path] = ()) -> tuple[Path, ...]:
    """The folders of the library that new files can go into, first choice first: those of the settings, `./loras`, which is made
    when it is needed, and `more`."""
    return tuple(dict.fromkeys(folder for folder in (*settings.lora_folders, Path("loras"), *more) if _writable(folder)))


def new_file(output: str | Path, settings: Settings, more: Iterable[Path] = (), *, usual: str = "") -> Path:
    """The path of the new file that `output` names, always with an ending.

    A bare name is a file of the library: it goes into the first of `writable_folders`. Anything with a separator, and `~`, is a path;
    `./name` is the current folder. A folder (one that exists, or a text that ends with a separator) holds the file `usual`.
    Raises SettingsError for an empty name, and for a folder where nothing is usual.
    """
    text = os.fspath(output)
    path = expanded(text)
    if not text.strip():
        raise SettingsError("the new file has no name; give one, such as mixed.safetensors")
    if text.endswith(_SEPARATORS) or os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        if not usual:
            raise SettingsError(f"{text} is a folder; say what the new file is called: {path / 'NAME'}{SUFFIX}")
        return path / usual
    path = path if path.suffix.lower() in (SUFFIX, *_OTHERS) else path.with_name(path.name + SUFFIX)
    folders = () if _has_folder(text) else writable_folders(settings, more)
    return folders[0] / path if folders else path


_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


def _has_folder(text: str) -> bool:
    """Whether a text says in which folder the file lies: `./x` does, which a Path does not keep."""
    return text.startswith("~") or bool(Path(text).drive) or any(mark in text for mark in _SEPARATORS)


def _writable(folder: Path) -> bool:
    """Whether a file can be made in the folder, or the folder itself beside others."""
    place = folder if folder.exists() else folder.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
