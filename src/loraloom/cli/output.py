"""Where pictures go: a named file, or numbered files in a folder. Decided and checked before anything is drawn."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom.atomic import make_folder, refuse_existing
from loraloom.errors import SettingsError
from loraloom.generate.save import save_numbered, save_png
from loraloom.newfile import names_folder, new_folder

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Output:
    """`files` has a name for each picture, or is empty: then they are numbered in `folder`."""

    folder: Path
    files: tuple[Path, ...] = ()
    overwrite: bool = False

    @classmethod
    def of(cls, output: str | Path, *, pictures: int = 1, overwrite: bool = False) -> "Output":
        """A name with an ending is a file, unless it names a folder. Several pictures get `-1`, `-2` after the name.

        Raises SettingsError for no name and for another ending than .png, Taken if files are there already, WriteFailed if the folder
        cannot be written.
        """
        path = new_folder(output)
        if names_folder(output) or not path.suffix:
            make_folder(path)
            return cls(path)
        if path.suffix.lower() != ".png":
            raise SettingsError(f"--output {path}: pictures are saved as .png, which keeps every pixel and the recipe")
        numbered = tuple(path.with_stem(f"{path.stem}-{index + 1}") for index in range(pictures))
        files = (path,) if pictures == 1 else numbered
        for file in files:
            refuse_existing(file, overwrite=overwrite)
        make_folder(path.parent)
        return cls(path.parent, files, overwrite)

    def save(self, image: "Image", text: str, *, title: str, index: int = 0, key: str = "parameters") -> Path:
        """Write picture `index` with its text; returns where it is. Raises WriteFailed."""
        if self.files:
            return save_png(image, self.files[index], text, key=key, overwrite=self.overwrite)
        return save_numbered(image, self.folder, title, text, key=key)
