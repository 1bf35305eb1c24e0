"""The losses of a run: a line for each step in `NAME.log.jsonl`, and the smoothed course of them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from loraloom.errors import WriteFailed

_KEEP = 0.95  # of the smoothed loss at each step: about the last 20 steps count


@dataclass(frozen=True)
class Entry:
    step: int
    loss: float
    learning_rate: float  # of the first component
    seconds: float  # since this start of the run


class RunLog:
    """Appends to the file and remembers. A run that goes on after `step` forgets what came later."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.entries = list(_kept(path, step)) if step else []
        self.smoothed: list[float] = []
        for entry in self.entries:
            self._smooth(entry.loss)
        self._pending = [json.dumps(asdict(entry)) for entry in self.entries]
        self._begun = False

    @property
    def loss(self) -> float:
        """The smoothed loss now; NaN if there is no step yet or the file was lost."""
        return self.smoothed[-1] if self.smoothed else float("nan")

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._smooth(entry.loss)
        self._pending.append(json.dumps(asdict(entry)))

    def flush(self) -> None:
        """Write what is new; the first time the file is written anew. Raises WriteFailed."""
        try:
            with self.path.open("a" if self._begun else "w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self._pending)
        except OSError as error:
            raise WriteFailed(f"{self.path}: the log could not be written: {error.strerror or error}") from error
        self._begun, self._pending = True, []

    def _smooth(self, loss: float) -> None:
        """Mean with weights that fall off backwards, over the steps that there are (as Adam corrects its averages)."""
        count = len(self.smoothed)
        weight = (1 - _KEEP) / (1 - _KEEP ** (count + 1))
        self.smoothed.append(loss if not count else self.smoothed[-1] + weight * (loss - self.smoothed[-1]))


def _kept(path: Path, step: int) -> Iterator[Entry]:
    """The log up to `step`; a line that was cut short ends it."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError):
            return
        if entry.step > step:
            return
        yield entry
