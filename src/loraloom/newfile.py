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
    """The path of the new LoRA file that `output` names, always with an ending.

    A bare name is a file of the library: it goes into the first of `writable_folders`. Anything with a separator, and `~`, is a path;
    `./name` is the current folder. A folder holds the file `usual`. Raises SettingsError as `new_path` does.
    """
    path = new_path(output, usual=usual)
    if path.suffix.lower() not in (SUFFIX, *_OTHERS):
        path = path.with_name(path.name + SUFFIX)
    if names_folder(output) or _has_folder(os.fspath(output)):
        return path
    folders = writable_folders(settings, more)
    return folders[0] / path if folders else path


def new_path(output: str | Path, *, usual: str = "", ending: str = SUFFIX) -> Path:
    """The path of the new file that `output` names: `usual` in a folder, else exactly what it says.

    Raises SettingsError for an empty name, and for a folder where nothing is usual; `ending` is that of the name it suggests.
    """
    path = _named(output, f"the new file has no name; give one, such as mixed{ending}")
    if names_folder(output):
        if not usual:
            raise SettingsError(f"{output} is a folder; say what the new file is called: {path / 'NAME'}{ending}")
        return path / usual
    return path


def new_folder(output: str | Path) -> Path:
    """The folder that `output` names. Raises SettingsError for an empty name."""
    return _named(output, "the folder has no name; give one, or a dot for the current folder")


def names_folder(output: str | Path) -> bool:
    """Whether it can only mean a folder: one that exists, or a text that ends with a separator, which a Path does not keep."""
    return os.fspath(output).endswith(_SEPARATORS) or os.path.isdir(expanded(output))  # noqa: PTH112 - Path.is_dir raises for long names


def _named(output: str | Path, empty: str) -> Path:
    if not os.fspath(output).strip():
        raise SettingsError(empty)
    return expanded(output)


_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


def _has_folder(text: str) -> bool:
    """Whether a text says in which folder the file lies: `./x` does, which a Path does not keep."""
    return text.startswith("~") or bool(Path(text).drive) or any(mark in text for mark in _SEPARATORS)


def _writable(folder: Path) -> bool:
    """Whether a file can be made in the folder, or the folder itself beside others."""
    place = folder if folder.exists() else folder.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
