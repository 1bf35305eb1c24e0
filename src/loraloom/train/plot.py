"""The loss as a picture."""

from collections.abc import Sequence
from pathlib import Path

from loraloom.errors import NotSupported, WriteFailed
from loraloom.train.log import Entry

_RAW, _SMOOTH = "#b8c4d6", "#1f4e9c"


def draw_loss(path: Path, entries: Sequence[Entry], smoothed: Sequence[float], title: str) -> None:
    """A PNG with the loss of each step and its smoothed course. Raises NotSupported without matplotlib, WriteFailed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotSupported('no loss plot without matplotlib; install it with pip install "loraloom[train]"') from error
    steps = [entry.step for entry in entries]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, [entry.loss for entry in entries], color=_RAW, linewidth=0.8, label="loss of the step")
    axes.plot(steps, smoothed, color=_SMOOTH, linewidth=2, label="smoothed")
    axes.set(xlabel="step", ylabel="loss (mean squared error)", title=title)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    partial = path.with_name(f".{path.name}.partial")
    try:
        figure.savefig(partial, dpi=110, format="png")
        partial.replace(path)
    except OSError as error:
        raise WriteFailed(f"{path}: the loss plot could not be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
