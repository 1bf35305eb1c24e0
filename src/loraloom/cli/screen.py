"""rich's console behind the door to the terminal: its own colours and cursor stay, and nothing of the text that it shows steers."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from loraloom.cli.terminal import clean, line, stderr

if TYPE_CHECKING:
    from rich.table import Table

_UNENDING = 100_000  # columns


class Screen(Console):
    """A console on stdout, or on stderr."""

    def __init__(self, *, on_stderr: bool = False) -> None:
        super().__init__(file=stderr() if on_stderr else None, soft_wrap=False)

    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)

    def table(self, table: "Table") -> None:
        """As wide as it needs where no terminal ends the lines: a path stays one word for the program that reads it."""
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _UNENDING
        self.print(table)

    def say(self, message: str, mark: str = "") -> None:
        """A message as it is, after a coloured word, in place of a bar that is shown meanwhile. In a log it is one line."""
        self.print(Text.assemble((f"{mark} " if mark else "", "yellow"), clean(message)), soft_wrap=not self.is_terminal)


def cell(value: object, style: str = "") -> Text:
    """A name or value in a table: on one line, and never markup."""
    return Text(line(value), style=style)
