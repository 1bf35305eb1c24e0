"""Which sampler step is running. The engine watches the pipeline's scheduler, so that no callback can be forgotten."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from loraloom.undo import Undo


class Steps:
    """Counts the steps of the running pass. diffusers' own step callback fires after a step, offers the step's number and not
    the run's, and is easily left out; a scheduler is asked once for every evaluation by every pipeline."""

    def __init__(self, pipeline: Any, steps: int) -> None:
        self._pipeline, self._steps = pipeline, steps
        self._watched: Any = None
        self._undo = Undo()
        self._evaluations = 0  # that are done in this pass
        self._by_hand: int | None = None

    def watch(self) -> None:
        """Follow the scheduler that the pipeline has now; it may be another one at every run."""
        scheduler = getattr(self._pipeline, "scheduler", None)
        if scheduler is self._watched:
            return
        self.restore()
        self._watched, self._evaluations = scheduler, 0
        if scheduler is not None and hasattr(scheduler, "set_timesteps"):
            self._wrap(scheduler, "set_timesteps", lambda: 0)
            self._wrap(scheduler, "step", lambda: self._evaluations + 1)

    @property
    def counted(self) -> bool:
        """Whether the pipeline's own scheduler tells which step runs."""
        self.watch()
        return bool(getattr(self._watched, "num_inference_steps", None))

    def set(self, step: int) -> None:
        """Told by hand, for loops without a scheduler of the pipeline's."""
        self._by_hand = step

    def now(self) -> tuple[int, int]:
        """(step, steps) of the evaluation that is about to begin. The evaluations of a second-order sampler are one step."""
        self.watch()
        if self._by_hand is not None:
            return min(self._by_hand, self._steps), self._steps
        asked, whole = getattr(self._watched, "num_inference_steps", None), getattr(self._watched, "timesteps", ())
        if not asked or not len(whole):
            return 1, self._steps
        evaluations = getattr(self._pipeline, "_num_timesteps", None) or len(whole)
        steps = -(-evaluations * asked // len(whole))  # img2img leaves the first steps out
        done = self._evaluations % evaluations
        return min(steps, done * steps // evaluations + 1), steps

    def restore(self) -> None:
        self._undo.run()
        self._watched = None

    def _wrap(self, scheduler: Any, name: str, count: Callable[[], int]) -> None:
        plain = getattr(scheduler, name)

        @wraps(plain)
        def counted(*arguments: Any, **options: Any) -> Any:
            result = plain(*arguments, **options)
            self._evaluations = count()
            return result

        self._undo.keep(scheduler, name)
        setattr(scheduler, name, counted)
