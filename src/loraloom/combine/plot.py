"""Error and rank of every module as a picture."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST = 1e-9  # what is less is drawn here: the scale is logarithmic
_DOTS = ((plotting.PALE, 11), (plotting.STRONG, 5), (plotting.OTHER, 5))  # colour and size; what is nearly the same lies on another


def draw_modules(
    path: Path,
    modules: Sequence[str],
    errors: Mapping[str, Sequence[float]],
    ranks: Sequence[tuple[int, int]],
    title: str,
    *,
    overwrite: bool = False,
) -> None:
    """A PNG: above the `errors` of each module by name of the error, below its rank before and after. Modules are grouped by their
    component and its large blocks, in the order given. At most three errors; the last is in front. Raises NotSupported without
    matplotlib, WriteFailed, Taken.
    """
    figure = plotting.new_figure(11, 6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    places = range(len(modules))
    for (name, values), (colour, size) in zip(errors.items(), _DOTS[-len(errors) :], strict=True):
        above.plot(places, [max(value, _LEAST) for value in values], ".", markersize=size, color=colour, label=name)
    above.set(yscale="log", ylabel="error, relative to the change", title=title)
    if any(before for before, _ in ranks):
        below.step(places, [before for before, _ in ranks], where="mid", color=plotting.PALE, label="before")
    below.step(places, [after for _, after in ranks], where="mid", color=plotting.STRONG, label="of the file")
    below.set(ylabel="rank", xlim=(-0.5, max(0.5, len(modules) - 0.5)))
    below.set_ylim(bottom=0)
    below.locator_params(axis="y", integer=True)
    for axes in (above, below):
        axes.grid(visible=True, axis="y", alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    _mark_blocks(above, below, modules)
    plotting.save(figure, path, overwrite=overwrite)


def _mark_blocks(above: "Axes", below: "Axes", modules: Sequence[str]) -> None:
    """A line before each block, its name below."""
    starts, names, place = [], [], 0
    for name, group in groupby(modules, key=_block):
        starts.append(place)
        names.append(name)
        place += len(list(group))
    for start in starts[1:]:
        for axes in (above, below):
            axes.axvline(start - 0.5, color="0.8", linewidth=0.8)
    ends = [*starts[1:], place]
    below.set_xticks([(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)], names, rotation=40, ha="right", fontsize=8)
    for axes in (above, below):
        axes.tick_params(axis="x", length=0)


def _block(module: str) -> str:
    """unet.down_blocks.0.attentions... is in "unet down 0"; what stands outside of a UNet's large blocks is its component's."""
    component, *parts = module.split(".")
    if parts[0] in ("down_blocks", "up_blocks"):
        return f"{component} {parts[0].removesuffix('_blocks')} {parts[1]}"
    return f"{component} mid" if parts[0] == "mid_block" else component
