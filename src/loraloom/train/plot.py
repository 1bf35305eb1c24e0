"""The loss as a picture."""

from pathlib import Path

from loraloom import plotting
from loraloom.train.log import RunLog


def draw_loss(path: Path, log: RunLog, title: str) -> None:
    """A PNG with the loss of each step, its smoothed course, and the looks at held-out pictures. Raises NotSupported without
    matplotlib, WriteFailed."""
    figure = plotting.new_figure(8, 4.5)
    steps = [entry.step for entry in log.entries]
    axes = figure.add_subplot()
    axes.plot(steps, [entry.loss for entry in log.entries], color=plotting.PALE, linewidth=0.8, label="loss of the step")
    axes.plot(steps, log.smoothed, color=plotting.STRONG, linewidth=2, label="smoothed")
    if log.looks:
        looks, same = [look.step for look in log.looks], "the same samples each time"
        axes.plot(looks, [look.trained for look in log.looks], color=plotting.STRONG, marker="o", label=f"trained pictures, {same}")
        axes.plot(looks, [look.held_out for look in log.looks], color=plotting.OTHER, marker="o", label=f"held-out pictures, {same}")
    axes.set(xlabel="step", ylabel="loss (mean squared error)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    plotting.save(figure, path, overwrite=True)
