"""What a field of a job is called on the command line, and how it is written."""

from dataclasses import dataclass
from pathlib import Path

from loraloom.bases import BASES
from loraloom.home import expanded


@dataclass(frozen=True)
class Flags:
    """`learning_rate: Annotated[float | None, Flags("--lr", "--learning-rate")]`: names other than the field's own."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class MayBePath:
    """`base: Annotated[str | None, MayBePath()]`: a word that may also name something on the disk, as the base does."""

    new: bool = False  # it names something that need not be there yet

    def names(self, word: object, folder: Path = Path()) -> bool:
        """Whether it names something on the disk, seen from `folder`. The name of a family stays one, also where a folder is called so."""
        if not isinstance(word, str) or not word or word in {base.family for base in BASES}:
            return False
        return self.new or (folder / expanded(word)).exists()


def several(given: object) -> object:
    """One of several is written without brackets."""
    return (given,) if isinstance(given, (str, Path)) else given
