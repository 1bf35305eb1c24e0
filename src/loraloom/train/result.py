"""What a run tells while it runs, and what it leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loraloom.errors import TrainingError


@dataclass(frozen=True)
class Progress:
    """Where the run stands. While pictures are looked at and encoded `step` and `steps` count pictures and there is no loss."""

    stage: Literal["look", "encode", "train"]
    step: int
    steps: int
    loss: float | None = None  # smoothed
    learning_rate: float | None = None  # of the first component, times alpha/rank
    rate: float | None = None  # steps a second
    seconds_left: float | None = None


@dataclass(frozen=True)
class TrainResult:
    """A complete run."""

    path: Path
    others: tuple[Path, ...]  # the same in further namings
    steps: int
    final_loss: float  # smoothed
    hash: str  # sshs_model_hash: sha256 of the tensors
    seconds: float  # of this start
    modules: int
    notes: tuple[str, ...]
    plot: Path | None
    samples: tuple[Path, ...]
    best: tuple[Path, int] | None  # and its step, where it was asked for
    held_out: str  # what the held-out pictures say, in words; empty without any


class TrainingStopped(TrainingError):
    """The run was asked to stop; nothing is lost. `state` is where `--resume` goes on."""

    def __init__(self, message: str, *, step: int, state: Path) -> None:
        super().__init__(message)
        self.step, self.state = step, state
