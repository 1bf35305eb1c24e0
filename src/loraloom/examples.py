"""The example pictures that come with the program: training sets, each a folder of pictures with captions."""

import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from loraloom.atomic import make_folder, replacing
from loraloom.errors import WriteFailed


def example_sets() -> Path:
    """The folder of the sets in the package."""
    return Path(str(files("loraloom"))) / "assets" / "examples"


def put_examples(folder: Path) -> tuple[Path, ...]:
    """Copies every set into `folder`, which is made; returns the sets' folders there. Files that are there already stay, if they are
    the same. Raises WriteFailed for one that is another, before anything is written, and where the disk says no."""
    make_folder(folder)
    pairs = list(_pairs(folder))
    if taken := [target for source, target in pairs if target.exists() and not _same(source, target)]:
        raise WriteFailed(f"{taken[0]} is there already and was not touched; give another folder: loraloom example FOLDER")
    for source, target in pairs:
        if not target.exists():
            _copy(source, target)
    return tuple(dict.fromkeys(target.parent for _, target in pairs))


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    for chosen in sorted(path for path in example_sets().iterdir() if path.is_dir()):
        yield from ((path, folder / chosen.name / path.name) for path in sorted(chosen.iterdir()) if path.suffix in (".png", ".txt"))


def _same(source: Path, target: Path) -> bool:
    return target.is_file() and target.read_bytes() == source.read_bytes()


def _copy(source: Path, target: Path) -> None:
    make_folder(target.parent)
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
