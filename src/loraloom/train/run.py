"""A run under way: steps, saved states, sample pictures, and the file at the end."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loraloom import dialects
from loraloom.bases import Base
from loraloom.errors import LoraError, NotSupported
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header
from loraloom.train import checkpoint
from loraloom.train.checkpoint import State
from loraloom.train.config import ResolvedConfig
from loraloom.train.identity import Identity, Paths
from loraloom.train.log import Entry, RunLog
from loraloom.train.metadata import metadata
from loraloom.train.optimizers.course import scale
from loraloom.train.plot import draw_loss
from loraloom.train.result import Progress, TrainingStopped, TrainResult
from loraloom.train.samples import Draw, save_row
from loraloom.train.step import Stepper

Report = Callable[[Progress], None]
Note = Callable[[str], None]
_WINDOW = 50  # steps over which the rate is measured


class Notes:
    """Hands notes on as they come and keeps them for the result."""

    def __init__(self, note: Note | None) -> None:
        self.all: list[str] = []
        self._hear = note

    def __call__(self, text: str) -> None:
        self.all.append(text)
        if self._hear is not None:
            self._hear(text)

    def once(self, text: str) -> None:
        if text not in self.all:
            self(text)


def silent(progress: Progress) -> None:
    pass


@dataclass
class Run:
    """A run under way; `step` is the last complete one."""

    job: ResolvedConfig
    base: Base
    stepper: Stepper
    paths: Paths
    identity: Identity
    log: RunLog
    notes: "Notes"
    progress: Report
    step: int
    draw: Draw | None = None
    samples: list[Path] = field(default_factory=list)
    plot: Path | None = None
    started: float = field(default_factory=time.time)
    saved: int = 0  # the step of the newest state

    def run(self, stopped: Callable[[], bool]) -> TrainResult:
        first, times = self.step + 1, deque([time.perf_counter()], maxlen=_WINDOW)
        self.saved = self.step
        for number in range(first, self.job.steps + 1):
            loss, rate = self.stepper.step(number)
            self.step = number
            for text in self.stepper.sentinel.news():
                self.notes(text)
            self.log.add(Entry(number, loss, rate, time.time() - self.started))
            times.append(time.perf_counter())
            self._tell(times)
            if number % self.job.save_every == 0 or number == self.job.steps:
                self._save()
            if number % self.job.sample_every == 0 or number == self.job.steps:
                self._draw()
            if number < self.job.steps and stopped():
                raise self._stop()
        return self._publish()

    def _tell(self, times: "deque[float]") -> None:
        rate = (len(times) - 1) / max(1e-9, times[-1] - times[0])
        left = (self.job.steps - self.step) / rate
        effective = self.log.entries[-1].learning_rate * scale(self.job)
        self.progress(Progress("train", self.step, self.job.steps, self.log.loss, effective, rate, left))

    def _save(self) -> None:
        """The log first, for a state must not be ahead of it; then the state; then what is only for looking at."""
        self.log.flush()
        moments, numbers = self.stepper.taken()
        adapters = {f"{target}.{name}": tensor for target, name, tensor in self.stepper.network.slots()}
        known = self.identity
        machine = checkpoint.machine()
        if not self.job.no_resume:
            state = State(self.step, known.config, known.base, known.dataset, machine, adapters, moments, numbers)
            checkpoint.save(self.paths.state, state)
        self.saved = self.step
        if self.job.snapshots and self.step < self.job.steps:
            self._write(self.paths.snapshot(self.step))
        try:
            self.plot = self.paths.plot
            draw_loss(self.plot, self.log.entries, self.log.smoothed, self.paths.output.stem)
        except NotSupported as error:
            self.plot = None
            self.notes.once(str(error))

    def _draw(self) -> None:
        if self.draw is None or not self.job.sample_prompts:
            return
        file = LoraFile(self.stepper.published(), {"ss_output_name": self.paths.output.stem}, self.base.family)
        try:
            pictures = self.draw(file, self.job.sample_prompts, self.job.seed)
        except LoraError as error:  # a sample prompt that does not work is no reason to lose a run
            self.notes.once(f"no sample pictures: {error}")
            return
        self.samples.append(save_row(self.paths.samples, self.step, pictures, self.job.sample_prompts))

    def _stop(self) -> TrainingStopped:
        if self.saved < self.step:
            self._save()
        state = self.paths.state
        message = f"stopped after step {self.step} of {self.job.steps}; "
        if self.job.no_resume:
            message += "with --no-resume no state was kept, so a run starts anew"
        else:
            message += "nothing is lost: run the same command with --resume to go on"
        return TrainingStopped(message, step=self.step, state=state)

    def _write(self, path: Path) -> Path:
        seen, loss = self.stepper.view, self.log.loss
        told = metadata(
            self.job,
            self.base,
            self.stepper.dataset,
            prediction=seen.prediction,
            step=self.step,
            loss=loss,
            started=self.started,
            now=time.time(),
        )
        file = LoraFile(self.stepper.published(), told, self.base.family)
        return dialects.write(file, path, self.job.dialect, dtype=getattr(torch, self.job.dtype))

    def _publish(self) -> TrainResult:
        """The state is complete on the disk here: if writing fails, --resume tries only that again."""
        path = self._write(self.paths.output)
        if not self.job.keep_state:
            checkpoint.remove(self.paths.state)
        return TrainResult(
            path=path,
            steps=self.step,
            final_loss=self.log.loss,
            hash=Header.read(path).content_hash(),
            seconds=time.time() - self.started,
            modules=len(self.stepper.network.adapters),
            notes=tuple(self.notes.all),
            plot=self.plot,
            samples=tuple(self.samples),
        )
