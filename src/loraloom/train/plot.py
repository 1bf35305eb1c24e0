"""The loss as a picture."""

from collections.abc import Sequence
from pathlib import Path

from loraloom import plotting
from loraloom.train.log import Entry


def draw_loss(path: Path, entries: Sequence[Entry], smoothed: Sequence[float], title: str) -> None:
    """A PNG with the loss of each step and its smoothed course. Raises NotSupported without matplotlib, WriteFailed."""
    figure = plotting.new_figure(8, 4.5)
    steps = [entry.step for entry in entries]
    axes = figure.add_subplot()
    axes.plot(steps, [entry.loss for entry in entries], color=plotting.PALE, linewidth=0.8, label="loss of the step")
    axes.plot(steps, smoothed, color=plotting.STRONG, linewidth=2, label="smoothed")
    axes.set(xlabel="step", ylabel="loss (mean squared error)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    plotting.save(figure, path)
