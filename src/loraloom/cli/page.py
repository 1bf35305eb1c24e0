"""How a page about a file is laid out: a heading, then names on the left and what there is to say on the right, wrapped to the width."""

from collections.abc import Iterable

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loraloom.catalogue.inspecting import Share, Spread
from loraloom.cli.screen import Screen
from loraloom.cli.terminal import clean, line

STYLES = {"certain": "green", "likely": "yellow", "cannot tell": "red", "whole": "green", "partly": "yellow", "not": "red"}
_SHOWN = 10  # reasons, of any number


class Page:
    """Collects lines and prints them at once. All texts are taken as they are: no markup, nothing that steers a terminal."""

    def __init__(self, heading: str, beside: str) -> None:
        self._title = Text.assemble((line(heading), "bold"), ("   " + line(beside), "dim"))
        self._grid = Table.grid(padding=(0, 2))
        self._grid.add_column(style="dim", no_wrap=True)
        self._grid.add_column(overflow="fold")
        self._last = ""

    def line(self, name: str, *parts: str | tuple[str, str]) -> None:
        """One line of texts, each alone or with its style; empty ones are left out. A name is printed once for lines that follow."""
        text = Text.assemble(*((clean(part), "") if isinstance(part, str) else (clean(part[0]), part[1]) for part in parts))
        if text.plain.strip():
            self._grid.add_row("" if name == self._last else name, text)
            self._last = name

    def print(self) -> None:
        console = Screen()
        console.print(self._title, overflow="fold")
        console.print(Padding(self._grid, (0, 0, 0, 2)))


def joined(*parts: str) -> str:
    """What there is of these, with dots between."""
    return " · ".join(part for part in parts if part)


def number(spread: Spread | None, name: str) -> str:
    """`rank 8`, or `rank 4 to 64, mostly 16`."""
    if spread is None:
        return ""
    if spread.least == spread.most:
        return f"{name} {spread.most:g}"
    return f"{name} {spread.least:g} to {spread.most:g}, mostly {spread.commonest:g}"


def share(found: Share, what: str) -> str:
    return f"{found.modules} of {found.of} {what}"


def reasons(found: Iterable[tuple[str, str]]) -> tuple[list[str], int]:
    """The first few keys by reason, and how many more there are."""
    by_reason: dict[str, list[str]] = {}
    for key, reason in found:
        by_reason.setdefault(reason, []).append(key)
    lines = [f"{keys[0]}{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}: {reason}" for reason, keys in by_reason.items()]
    return lines[:_SHOWN], max(0, len(lines) - _SHOWN)


def size(count: int) -> str:
    """`734 B`, `8.2 KB`, `144 MB`."""
    value, units = float(count), iter(("B", "KB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000:
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
