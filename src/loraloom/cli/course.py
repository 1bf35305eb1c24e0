"""A job that nobody watches, in a log: a line at the beginning of each part, one every ten seconds, and one at its end."""

import time
from collections.abc import Callable

PAUSE = 10.0  # seconds between two lines


class Lines:
    """Says where a job stands, not more often than every `PAUSE` seconds of the clock; a step that takes longer has a line each."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._part, self._last = "", 0.0

    def show(self, part: str, step: int, steps: int, told: str = "") -> None:
        """`part` is what is being done, `told` what else is to be said of it."""
        now = self._clock()
        if part == self._part and step < steps and now - self._last < PAUSE:
            return
        self._part, self._last = part, now
        self._say(f"{part}: {step} of {steps}" + (f"   {told}" if told else ""))
