"""`loraloom example`: pictures with captions to try training on."""

from typing import Annotated

import typer

from loraloom.cli import terminal
from loraloom.newfile import new_folder


def example(
    folder: Annotated[str, typer.Argument(help="Where they go; made if it is missing.")] = "examples",
) -> None:
    """Put the example pictures down, and print where they are: a style to train in minutes on the embedded base."""
    from loraloom.examples import put_examples

    for path in put_examples(new_folder(folder)):
        terminal.out(str(path))
    terminal.err(f"next: loraloom train {new_folder(folder) / 'delft'} --trigger zvz --output mine")
