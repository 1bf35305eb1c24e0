"""What commands have in common in front of a person: the progress bar and notes."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loraloom.cli import terminal

if TYPE_CHECKING:
    from loraloom.generate.draw import Progress


@contextmanager
def progress_bar(opening: str) -> "Iterator[Callable[[Progress], None]]":
    """A bar on stderr with rate and time left, gone when it is done; nothing where stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar

    from loraloom.cli.screen import Screen

    console = Screen(on_stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(opening, total=None, pace="")

        def on_step(progress: "Progress") -> None:
            pace = f"{progress.rate:.1f} steps/s, {_duration(progress.seconds_left)} left" if progress.rate else ""
            bar.update(task, description="drawing", completed=progress.step, total=progress.steps, pace=pace)

        yield on_step


def print_notes(notes: Iterable[str]) -> None:
    for note in dict.fromkeys(notes):
        terminal.err(f"note: {note}")


def _duration(seconds: float) -> str:
    """`8 s`, `2:05`, `1:02:05`."""
    if not math.isfinite(seconds):
        return "?"
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes_left:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{whole} s"
