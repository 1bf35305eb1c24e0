"""A run under way: steps, saved states, sample pictures, looks at held-out pictures, and the file at the end."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from loraloom.errors import LoraError, NotSupported, Taken, WriteFailed
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header
from loraloom.train import checkpoint, networks, overfit
from loraloom.train.checkpoint import State
from loraloom.train.config import ResolvedConfig
from loraloom.train.identity import Identity, Paths
from loraloom.train.interrupt import Abandoned, Wishes
from loraloom.train.log import Entry, Look, RunLog
from loraloom.train.metadata import metadata
from loraloom.train.networks import Networks
from loraloom.train.optimizers.course import scale
from loraloom.train.plot import draw_loss
from loraloom.train.record import Record, mean
from loraloom.train.result import Progress, TrainingStopped, TrainResult
from loraloom.train.samples import Draw, save_row
from loraloom.train.step import Stepper
from loraloom.train.validation import Validation
from loraloom.train.wording import in_place

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
    stepper: Stepper
    paths: Paths
    identity: Identity
    networks: Networks
    log: RunLog
    record: Record
    validation: Validation | None
    notes: "Notes"
    progress: Report
    wishes: Wishes
    step: int
    draw: Draw | None = None
    samples: list[Path] = field(default_factory=list)
    plot: Path | None = None
    started: float = field(default_factory=time.time)  # this time
    saved: int = 0  # the step of the newest state

    def run(self, stopped: Callable[[], bool]) -> TrainResult:
        try:
            return self._run(stopped)
        except Abandoned:
            raise self._stop() from None
        except BaseException:
            with suppress(WriteFailed):  # the error that is on its way says more
                self.log.flush()
            raise

    def _run(self, stopped: Callable[[], bool]) -> TrainResult:
        first, times = self.step + 1, deque([time.perf_counter()], maxlen=_WINDOW)
        self.saved = self.step
        if self.step:
            self._keep()  # a kill may have come between the state and these
        self._look()
        for number in range(first, self.job.steps + 1):
            loss, rate = self.stepper.step(number)
            self.step = number
            for text in self.stepper.sentinel.news():
                self.notes(text)
            self.log.add(Entry(number, loss, rate, time.time() - self.started))
            times.append(time.perf_counter())
            self._tell(times)
            self._look()
            if number % self.job.save_every == 0 or number == self.job.steps:
                self._save()
            if number < self.job.steps and (stopped() or self.wishes.stop):
                raise self._stop()
            if number % self.job.sample_every == 0 or number == self.job.steps:
                self._draw()
        return self._publish()

    def _tell(self, times: "deque[float]") -> None:
        rate = (len(times) - 1) / max(1e-9, times[-1] - times[0])
        left = (self.job.steps - self.step) / rate
        effective = self.log.entries[-1].learning_rate * scale(self.job)
        self.progress(Progress("train", self.step, self.job.steps, self.log.loss, effective, rate, left))

    def _look(self) -> None:
        """Ask the held-out pictures, where it is time and was not done already."""
        due = self.step % self.job.validate_every == 0 or self.step == self.job.steps
        if self.validation is None or not due or (self.record.last is not None and self.record.last.step >= self.step):
            return
        found = self.validation.look(self.step)
        self.record.measured(found)
        self.log.add(Look(self.step, found.loss, mean(found.trained)))
        if self.step and self.record.better(self.step, found.loss):
            self._keep_best()

    def _save(self) -> None:
        """The log first, for a state must not be ahead of it; then the state, from which everything after it can be made again."""
        self.log.flush()
        if self.validation is None:
            self.record.better(self.step, self.log.loss)
        if not self.job.no_resume:
            checkpoint.save(self.paths.state, self._state())
        self.saved = self.step
        self._keep()
        try:
            self.plot = self.paths.plot
            draw_loss(self.plot, self.log, self.paths.output.stem)
        except (NotSupported, WriteFailed) as error:  # a picture to look at is no reason to lose a run
            self.plot = None
            self.notes.once(str(error))

    def _state(self) -> State:
        moments, numbers = self.stepper.taken()
        adapters = {f"{target}.{name}": tensor for target, name, tensor in self.stepper.network.slots()}
        known, told = self.identity, self.record.as_json()
        return State(self.step, known.config, known.base, known.pictures, checkpoint.machine(), told, adapters, moments, numbers)

    def _keep(self) -> None:
        """The LoRAs beside the state: made where they are not there yet, the oldest dropped."""
        mark = networks.at(self.step)
        if self.job.keep and self.step % self.job.save_every == 0 and self.step < self.job.steps and not self.networks.has(mark, self.step):
            self._write_aside(mark)
        self._keep_best()
        if self.job.keep:
            self.networks.drop_old(self.step)

    def _keep_best(self) -> None:
        best = self.record.best
        if self.job.keep_best and best is not None and best.step == self.step and not self.networks.has(networks.BEST, self.step):
            self._write_aside(networks.BEST)

    def _draw(self) -> None:
        if self.draw is None or not self.job.sample_prompts:
            return
        file = LoraFile(self.stepper.published(), {"ss_output_name": self.paths.output.stem}, self.networks.base.family)
        try:
            with self.wishes.abandonable():
                prompts = tuple(in_place(prompt, self.job.trigger) for prompt in self.job.sample_prompts)
                pictures = self.draw(file, prompts, self.job.seed)
            self.samples.append(save_row(self.paths.samples, self.step, pictures, prompts))
        except Abandoned:
            if self.step < self.job.steps:
                raise
        except LoraError as error:  # a sample prompt that does not work is no reason to lose a run
            self.notes.once(f"no sample pictures: {error}")
        except (RuntimeError, ValueError, MemoryError) as error:  # nor is a pipeline that fails, or a GPU that is too full to draw
            self.notes.once(f"no sample pictures: drawing them failed: {type(error).__name__}: {error}")

    def _stop(self) -> TrainingStopped:
        if self.saved < self.step:
            self._save()
        state = self.paths.state
        if not self.step:
            return TrainingStopped("stopped before the first step was complete; nothing was written", step=0, state=state)
        message = f"stopped after step {self.step} of {self.job.steps}; "
        if self.job.no_resume:
            message += "with --no-resume no state was kept, so a run starts anew"
        else:
            message += "nothing is lost: run the same command with --resume to go on"
        return TrainingStopped(message, step=self.step, state=state)

    def _write(self, mark: str = "") -> tuple[Path, ...]:
        told = metadata(
            self.job,
            self.networks.base,
            self.stepper.dataset,
            prediction=self.stepper.view.prediction,
            step=self.step,
            loss=self.log.loss,
            started=self.record.started,
            now=time.time(),
        )
        return self.networks.write(self.stepper.published(), told, mark)

    def _write_aside(self, mark: str) -> None:
        """A LoRA beside the one of the end. Where another file took its name it has another one, which is no reason to lose the run."""
        try:
            self._write(mark)
        except Taken as error:
            self.notes(str(error))

    def _publish(self) -> TrainResult:
        """The state is complete on the disk here: if writing fails, --resume tries only that again."""
        if idle := networks.told_of_zeros(self.stepper.published(), self.job):
            self.notes(idle)
        paths = self._write()
        if not self.job.keep_state:
            checkpoint.remove(self.paths.state)
        best = self.record.best
        return TrainResult(
            path=paths[0],
            others=paths[1:],
            steps=self.step,
            final_loss=self.log.loss,
            hash=Header.read(paths[0]).content_hash(),
            seconds=time.time() - self.started,
            modules=len(self.stepper.network.adapters),
            notes=tuple(self.notes.all),
            plot=self.plot,
            samples=tuple(self.samples),
            best=(self.networks.of(networks.BEST)[0], best.step) if self.job.keep_best and best is not None else None,
            held_out=overfit.report(self.record, len(self.validation.held_out.dataset.own)) if self.validation else "",
        )
