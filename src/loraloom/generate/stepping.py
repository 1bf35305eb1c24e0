"""The sampler's steps as the clock of drawing: every pipeline asks its scheduler once for each evaluation; many know no callback."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from loraloom.errors import NotSupported

AfterStep = Callable[[int, Any], None]  # the number of the step, from 1, and the latents as they are then, if there are any


class Stepping:
    """Calls `after` when a step of the run is done, from inside of it: what `after` raises ends the run."""

    def __init__(self, pipeline: Any) -> None:
        """Follows the pipeline's scheduler, which nobody else uses. Raises NotSupported for a pipeline without one."""
        self._pipeline, self._scheduler = pipeline, scheduler_of(pipeline)
        self._steps = self._evaluations = self._done = 0
        self._after: AfterStep = lambda _step, _latents: None
        plain = self._scheduler.step

        @wraps(plain)
        def counted(*arguments: Any, **options: Any) -> Any:
            result = plain(*arguments, **options)
            self._count(result)
            return result

        self._scheduler.step = counted

    def begin(self, steps: int, after: AfterStep) -> None:
        """A run of `steps` begins."""
        self._steps, self._after, self._evaluations, self._done = steps, after, 0, 0

    def _count(self, result: Any) -> None:
        """A second-order sampler evaluates the model more than once in a step."""
        self._evaluations += 1
        whole = getattr(self._pipeline, "_num_timesteps", None) or len(self._scheduler.timesteps)  # image to image leaves the first out
        step = min(self._steps, self._evaluations * self._steps // max(whole, 1))
        if step > self._done:
            self._done = step
            self._after(step, result[0] if isinstance(result, tuple) else getattr(result, "prev_sample", None))


def scheduler_of(pipeline: Any) -> Any:
    """Raises NotSupported for a pipeline that has none, or several under other names."""
    found = getattr(pipeline, "scheduler", None)
    if not hasattr(found, "step"):
        raise NotSupported(f"{type(pipeline).__name__} has no scheduler of its own; it is not a plain text-to-image pipeline")
    return found
