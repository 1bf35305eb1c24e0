"""Prompts of sample pictures, alone or in a file, with kohya's options behind them: `a cat --n blurry --w 512 --h 768 --s 20 --l 7`."""

import re
from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import SettingsError
from loraloom.home import expanded
from loraloom.train.texts import read_text

MOST = 16
_OPTION = re.compile(r"\s--(\w+)(?:\s+|$)")
_KNOWN = {"n": "negative", "w": "width", "h": "height", "s": "steps", "l": "guidance", "d": "seed"}
_WHOLE = {"width": (8, 8192), "height": (8, 8192), "steps": (1, 1000), "seed": (0, 2**53)}


@dataclass(frozen=True)
class SamplePrompt:
    """One picture. None: what the base, or the run, does."""

    text: str
    negative: str = ""
    width: int | None = None  # pixels, a multiple of 8
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None

    @classmethod
    def of(cls, words: str) -> "SamplePrompt":
        """Raises SettingsError for an option that is not known, and for a value that it cannot have."""
        text, *options = _OPTION.split(f" {words.strip()}")
        found: dict[str, str | int | float] = {}
        for name, value in zip(options[::2], options[1::2], strict=True):
            if name not in _KNOWN:
                known = ", ".join(f"--{each} ({what})" for each, what in _KNOWN.items())
                raise SettingsError(f"sample prompt {words!r} has an option --{name}; known are {known}")
            found[_KNOWN[name]] = _value(words, name, value.strip())
        return cls(text.strip(), **found)  # type: ignore[arg-type]


def _value(words: str, name: str, value: str) -> str | int | float:
    field = _KNOWN[name]
    if field == "negative":
        return value
    try:
        number = float(value) if field == "guidance" else int(value)
    except ValueError as error:
        raise SettingsError(f"sample prompt {words!r}: --{name} is the {field}, a number, not {value!r}") from error
    least, most = _WHOLE.get(field, (0, 100))
    if not least <= number <= most:
        raise SettingsError(f"sample prompt {words!r}: --{name} {value} is not between {least} and {most}")
    if field in ("width", "height") and number % 8:
        near = int(number) // 8 * 8
        raise SettingsError(f"sample prompt {words!r}: --{name} {value} is not a multiple of 8; take {near} or {near + 8}")
    return number


def of_file(path: Path) -> tuple[str, ...]:
    """The prompts of a text file: one a line; empty lines, and those that begin with #, are none. Raises SettingsError, DatasetError."""
    path = expanded(path)
    if path.suffix.lower() in (".toml", ".json"):
        raise SettingsError(f"{path}: prompts are read from a text file with one in each line")
    lines = (line.strip() for line in read_text(path).splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
