"""The error tree. Every error that loraloom raises on purpose is a `LoraError`; its text says what, where, both values, what to do.

LoraError
├── PromptError            a mistake in a prompt's tags; knows its column
├── NotFound               a name that leads to nothing, with the nearest names
│   └── Ambiguous          a name that leads to several files, listed
├── FileError              a file that cannot be used as it is
│   ├── NotSafetensors     not a safetensors file, or cut short
│   ├── LimitExceeded      larger than what is read from a stranger
│   ├── BadTensor          a tensor that no adapter can hold: NaN, wrong dtype, impossible shape
│   ├── UnknownFormat      readable, but no dialect knows its keys
│   ├── Unforeseen         looking at it met a bug of loraloom: this file cannot be used, others can
│   ├── DialectCannotHold  this dialect has no way to write this adapter
│   └── WriteFailed        the disk said no; what was there before still is
│       └── Taken          another file has the name
├── MatchError             a file and a base that do not belong together
│   ├── WrongBase          made for another family, both named
│   ├── ShapeMismatch      same key, other shape
│   └── NothingApplied     not one tensor fits
├── EngineError            what the engine cannot do with this pipeline or in this state
│   ├── NotSupported       a feature that this engine, mode or pipeline refuses by name
│   ├── BaseLost           weights of the base that cannot be brought back: it has to be loaded again
│   └── NotFinite          a picture whose numbers are NaN or infinite, with the network that did it
├── BaseError              a base model that cannot be loaded
├── DatasetError           pictures or captions that cannot be trained on
├── TrainingError          a run that stopped itself: NaN loss, dead target, state of another run
│   └── TrainingStopped    a run that was asked to stop; nothing is lost (train/result.py)
├── SettingsError          a setting or option with a value that means nothing
└── Interrupted            a job that was asked to stop; what was finished is kept
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_NAME = 1000  # characters; longer text is no name


class LoraError(Exception):
    """Base of all errors that loraloom raises on purpose. The text is complete: show it as it is.

    `fields` are those of the request that can settle it, the likeliest first. Each face says them its own way: the command line names its
    options after the text, an HTTP answer has the field, the page shows the text beside its control.
    """

    def __init__(self, message: str, *, fields: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class PromptError(LoraError):
    """A mistake in a prompt. `column` counts from 0 in `prompt`; the text shows the place under the prompt."""

    def __init__(self, message: str, *, prompt: str, column: int, length: int = 1) -> None:
        self.message, self.prompt, self.column, self.length = message, prompt, column, length
        # A long prompt is shown around the mistake, on one line, so that the marks stand under it.
        start = max(0, column - 60)
        shown = prompt[start : column + 60].replace("\n", " ")
        marks = " " * (column - start) + "^" * max(1, min(length, len(shown) - (column - start)))
        super().__init__(f"{message}\n  {shown}\n  {marks}")


class NotFound(LoraError):
    """A name that leads to nothing."""


class Ambiguous(NotFound):
    """A name that leads to several files."""


class FileError(LoraError):
    """A file that cannot be used as it is."""


class NotSafetensors(FileError):
    """Not a safetensors file, or one that was cut short."""


class LimitExceeded(FileError):
    """Larger than what is read from a stranger; nothing was allocated."""


class BadTensor(FileError):
    """A tensor that no adapter can hold."""


class UnknownFormat(FileError):
    """A readable file whose keys no dialect knows."""


class Unforeseen(FileError):
    """Looking at the file met a bug of loraloom; the log has its traceback."""


class DialectCannotHold(FileError):
    """The dialect has no way to write this adapter."""


class WriteFailed(FileError):
    """The disk said no; a file that was there before is untouched."""


class Taken(WriteFailed):
    """Another file has the name and is not to be replaced. `kept` is where finished work lies instead, if any was done."""

    def __init__(self, message: str, *, kept: Path | None = None, fields: tuple[str, ...] = ()) -> None:
        super().__init__(message, fields=fields)
        self.kept = kept


class MatchError(LoraError):
    """A file and a base that do not belong together."""


class WrongBase(MatchError):
    """The file was made for another family of base models."""


class ShapeMismatch(MatchError):
    """A key of the base, with a shape that is not the base's."""


class NothingApplied(MatchError):
    """Not one tensor of the file fits the base."""


class EngineError(LoraError):
    """Something that the engine cannot do with this pipeline or in this state."""


class NotSupported(EngineError):
    """A feature that this engine, mode or pipeline refuses by name."""


class BaseLost(EngineError):
    """Weights of the base that cannot be brought back; the pipeline takes no networks any more and has to be loaded again."""


class NotFinite(EngineError):
    """A picture whose numbers are NaN or infinite; nothing of it is kept."""


class BaseError(LoraError):
    """A base model that cannot be loaded."""


class DatasetError(LoraError):
    """Pictures or captions that cannot be trained on."""


class TrainingError(LoraError):
    """A training run that stopped itself."""


class SettingsError(LoraError):
    """A setting or option with a value that means nothing."""


class Interrupted(LoraError):
    """Raised by a progress callback to stop the job; what was finished is kept, and the base is as it was."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean "a" or "b"?` for the nearest known names, or nothing. A text that is too long for a name is near none."""
    if len(name) > _NAME:
        return ""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.6)
    quoted = " or ".join(f'"{by_lower[candidate]}"' for candidate in near)
    return f"; did you mean {quoted}?" if near else ""
