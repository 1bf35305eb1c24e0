"""The command line. One file per command; they build a request, hand it to a Session and print what comes back.

Pictures and tables go to stdout, everything else to stderr. Exit codes:

    0    done
    1    a bug in loraloom (with a traceback)
    2    the command itself: an unknown option, a mistake in a prompt, a setting without meaning
    3    a name that leads to nothing, or to several files
    4    a file that cannot be used as it is
    5    the base: it cannot be loaded, or the LoRA is not for it, or it cannot do what was asked
    6    the disk: something could not be written
    7    training stopped itself, or its pictures cannot be trained on
    8    `check`: the file fits the base partly
    9    `check`: the file does not fit the base
    130  interrupted
"""

import os
import sys

import typer

from loraloom.cli import terminal
from loraloom.cli.check import check
from loraloom.cli.convert import convert
from loraloom.cli.edit import edit
from loraloom.cli.example import example
from loraloom.cli.extract import extract
from loraloom.cli.generate import generate
from loraloom.cli.grid import grid
from loraloom.cli.inspect import inspect
from loraloom.cli.list import list_loras
from loraloom.cli.resize import resize
from loraloom.cli.serve import serve
from loraloom.cli.settings import settings
from loraloom.cli.train import Train, train
from loraloom.errors import (
    BaseError,
    DatasetError,
    EngineError,
    FileError,
    LoraError,
    MatchError,
    NotFound,
    TrainingError,
    WriteFailed,
)

# The first that fits counts, so a subclass stands before its class.
EXIT_CODES: tuple[tuple[type[LoraError], int], ...] = (
    (NotFound, 3),
    (WriteFailed, 6),
    (FileError, 4),
    (MatchError, 5),
    (EngineError, 5),
    (BaseError, 5),
    (DatasetError, 7),
    (TrainingError, 7),
    (LoraError, 2),
)

app = typer.Typer(
    name="loraloom",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _loraloom(
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    """Teach an image model new tricks without touching it: train, mix and compare LoRAs."""
    if version:
        from loraloom import __version__

        terminal.out(f"loraloom {__version__}")
        raise typer.Exit


app.command()(generate)
app.command()(grid)
app.command(name="list")(list_loras)
app.command()(inspect)
app.command()(check)
app.command()(convert)
app.command()(edit)
app.command()(example)
app.command()(extract)
app.command()(resize)
# So that -1 is a value, not an option.
app.command(context_settings={"ignore_unknown_options": True})(settings)
app.command(cls=Train)(train)
app.command()(serve)


def main() -> None:
    """The program `loraloom`: runs the command and leaves with one of the exit codes above."""
    _quieten()
    with terminal.guarded():
        try:
            app()
        except LoraError as error:
            terminal.err(f"loraloom: {error}{_options(error)}")
            sys.exit(exit_code(error))
        except KeyboardInterrupt:
            sys.exit(130)


def exit_code(error: LoraError) -> int:
    """The code that the program leaves with for this error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def _options(error: LoraError) -> str:
    """` (--rank, --error)` for an error that names fields of the request."""
    names = ", ".join(f"--{field.replace('_', '-')}" for field in error.fields)
    return f" ({names})" if names else ""


def _quieten() -> None:
    """Set before diffusers and transformers are imported: no code from the hub, and no warnings that users can do nothing about."""
    for name, value in (("DIFFUSERS_DISABLE_REMOTE_CODE", "1"), ("TRANSFORMERS_VERBOSITY", "error"), ("DIFFUSERS_VERBOSITY", "error")):
        os.environ.setdefault(name, value)
