"""`loraloom settings`: what is set, and setting it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraloom.cli import options, terminal

if TYPE_CHECKING:
    from loraloom.settings import Settings


def settings(
    name: Annotated[str | None, typer.Argument(help="Show this one alone.", show_default=False)] = None,
    value: Annotated[
        str | None, typer.Argument(help="Set it to this. Several folders are separated as in PATH.", show_default=False)
    ] = None,
    reset: Annotated[str | None, typer.Option(help="Take this setting out of the file: back to its default.", show_default=False)] = None,
    as_json: options.Json = False,
) -> None:
    """Show the settings and where each comes from, or change one in the settings file."""
    from loraloom.errors import SettingsError
    from loraloom.settings import Settings

    if reset and name:
        raise SettingsError(f"--reset {reset} takes no other setting beside it; leave {name} out")
    if reset:
        current = Settings.save({reset: None})
    elif name and value is not None:
        current = Settings.save({name: value})
    else:
        current = Settings.load()
    _show(current, name or reset, as_json=as_json)


def _show(current: "Settings", name: str | None, *, as_json: bool) -> None:
    """One value, or all of them with where they come from."""
    from loraloom.errors import SettingsError, suggestion
    from loraloom.settingsfile import settings_file

    values = current.model_dump(mode="json")
    if name is not None and name not in values:
        raise SettingsError(f'there is no setting "{name}"{suggestion(name, values) or "; there are " + ", ".join(values)}')
    fixed = current.fixed()
    if as_json:
        shown = values if name is None else {name: values[name]}
        terminal.out_json({"values": shown, "fixed": [each for each in fixed if each in shown], "file": str(settings_file())})
    elif name is not None:
        terminal.out(terminal.line(_plain(values[name])))
    else:
        _print_table(values, fixed, current.model_fields_set, settings_file())


def _print_table(values: dict[str, Any], fixed: tuple[str, ...], given: set[str], file: Path) -> None:
    from rich.table import Table

    from loraloom.cli.screen import Screen, cell

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("setting", "value"):
        table.add_column(title, overflow="fold")
    table.add_column("from", overflow="fold", style="dim")
    for name, value in values.items():
        source = f"LORALOOM_{name.upper()}" if name in fixed else str(file) if name in given else "default"
        table.add_row(name, cell(_plain(value)), cell(source))
    Screen().table(table)


def _plain(value: Any) -> str:
    """As it may be given to the command."""
    return os.pathsep.join(value) if isinstance(value, list) else str(value)
