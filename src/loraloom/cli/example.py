"""`loraloom example`: pictures with captions to try training on."""

from pathlib import Path
from typing import Annotated

import typer

from loraloom.cli import terminal
from loraloom.home import expanded


def example(
    folder: Annotated[Path, typer.Argument(help="Where they go; made if it is missing.")] = Path("examples"),
) -> None:
    """Put the example pictures down, and print where they are: a style to train in minutes on the embedded base."""
    from loraloom.examples import put_examples

    for path in put_examples(expanded(folder)):
        terminal.out(str(path))
    terminal.err(f"next: loraloom train {folder / 'delft'} --trigger zvz --output mine")
