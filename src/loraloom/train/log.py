"""The course of a run: a line in `NAME.log.jsonl` for each step and for each look at held-out pictures, and the smoothed losses."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from loraloom.atomic import is_full, replacing
from loraloom.errors import WriteFailed

_KEEP = 0.95  # of the smoothed loss at each step: about the last 20 steps count


@dataclass(frozen=True)
class Entry:
    step: int
    loss: float
    learning_rate: float  # of the first component
    seconds: float  # since this start of the run


@dataclass(frozen=True)
class Look:
    """The same samples after `step` steps: pictures that are not trained on, and as many that are."""

    step: int
    held_out: float  # mean loss
    trained: float


class RunLog:
    """Appends to the file and remembers. A run that goes on after `step` forgets what came later."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.looks: list[Look] = []
        self.smoothed: list[float] = []
        self._pending: list[str] = []
        self._begun = False
        for line in _kept(path, step) if step else ():
            self.add(line)

    @property
    def loss(self) -> float:
        """The smoothed loss now; NaN if there is no step yet or the file was lost."""
        return self.smoothed[-1] if self.smoothed else float("nan")

    def add(self, line: Entry | Look) -> None:
        if isinstance(line, Look):
            self.looks.append(line)
        else:
            self.entries.append(line)
            self._smooth(line.loss)
        self._pending.append(json.dumps(asdict(line)))

    def flush(self) -> None:
        """Put what is new on the disk, so that a power cut takes none of it. The first time the file is written anew, and the old one
        is there until then. Raises WriteFailed."""
        text = "".join(f"{line}\n" for line in self._pending)
        try:
            if self._begun:
                _write(self.path, text)
            else:
                with replacing(self.path) as temporary:
                    _write(temporary, text)
        except (OSError, WriteFailed) as error:
            reason = error if isinstance(error, OSError) else error.__cause__
            advice = "free some space" if isinstance(reason, OSError) and is_full(reason) else "check the folder and its permissions"
            why = reason.strerror if isinstance(reason, OSError) else error
            raise WriteFailed(f"{self.path}: the log could not be written: {why}; {advice}, then --resume") from error
        self._begun, self._pending = True, []

    def _smooth(self, loss: float) -> None:
        """Mean with weights that fall off backwards, over the steps that there are (as Adam corrects its averages)."""
        count = len(self.smoothed)
        weight = (1 - _KEEP) / (1 - _KEEP ** (count + 1))
        self.smoothed.append(loss if not count else self.smoothed[-1] + weight * (loss - self.smoothed[-1]))


def _write(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _kept(path: Path, step: int) -> Iterator[Entry | Look]:
    """The log up to `step`; a line that was cut short, or is none of ours, ends it."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(text)
            line = msgspec.convert(found, Entry) if "loss" in found else msgspec.convert(found, Look)
        except (ValueError, TypeError, RecursionError):  # msgspec's ValidationError is a ValueError
            return
        if line.step > step:
            return
        yield line
