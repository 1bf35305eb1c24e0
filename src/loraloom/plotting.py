"""Figures of one look, as PNG files. matplotlib is imported when a figure is made: it comes with `loraloom[train]`."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom.atomic import make_folder, replacing
from loraloom.errors import NotSupported
from loraloom.extras import missing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALE, STRONG, OTHER = "#b8c4d6", "#1f4e9c", "#c8553d"  # what lies behind, what is to be seen, what is beside it


def require() -> None:
    """Raises NotSupported without matplotlib: for who wants to know before the work that the plot is of."""
    if find_spec("matplotlib") is None:
        raise NotSupported(missing("a plot", "matplotlib"))


def new_figure(width: float, height: float) -> "Figure":
    """Inches. Raises as `require` does."""
    require()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path, *, overwrite: bool) -> None:
    """The whole file or nothing of it; its folder is made. Raises WriteFailed, Taken."""
    make_folder(path.parent)
    with replacing(path, overwrite=overwrite) as partial:
        figure.savefig(partial, dpi=110, format="png")
