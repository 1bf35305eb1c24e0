"""`loraloom list`: the LoRAs of the library. Headers only."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraloom.cli import options
from loraloom.cli.show import print_json

if TYPE_CHECKING:
    from loraloom.catalogue import Facts, Item


def list_loras(
    words: Annotated[list[str] | None, typer.Argument(help="Only those with all of these words in name, family or triggers.")] = None,
    lora_folder: options.LoraFolder = None,
    as_json: options.Json = False,
) -> None:
    """List the LoRAs in your folders: name, base, type, trigger words, size and place."""
    from loraloom.catalogue import Catalogue
    from loraloom.settings import Settings

    catalogue = Catalogue([*Settings.load().library, *(folder.expanduser() for folder in lora_folder or ())])
    found = [(item, catalogue.facts(item)) for item in catalogue.items]
    shown = [(item, facts) for item, facts in found if all(word.lower() in _searched(item, facts) for word in words or ())]
    if as_json:
        print_json([_entry(item, facts) for item, facts in shown])
    elif shown:
        _print_table(shown)
    else:
        where = ", ".join(str(folder) for folder in catalogue.folders) or "no folder; give one with --lora-folder or in the settings"
        print(f"no LoRAs in {where}" if not found else f"none of {len(found)} LoRAs has these words", file=sys.stderr)


def _searched(item: "Item", facts: "Facts") -> str:
    return " ".join((item.below, facts.family, facts.title, *facts.types, *facts.aliases, *facts.triggers)).lower()


def _print_table(shown: "list[tuple[Item, Facts]]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Names and metadata are strangers' text: `Text` takes brackets as they are, never as markup.
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("name", "base", "type", "triggers"):
        table.add_column(title, overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold", style="dim")
    for item, facts in shown:
        kinds = "+".join(facts.types) + (f" {facts.rank}" if facts.rank else "")
        middle = Text(facts.problem, style="red") if facts.problem else Text(_few(facts.triggers))
        table.add_row(Text(item.name), Text(facts.title), Text(kinds), middle, _size(item.size), Text(_home(item.path.parent)))
    Console(soft_wrap=False).print(table)


def _few(words: tuple[str, ...]) -> str:
    return ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")


def _size(count: int) -> str:
    """`734 B`, `8.2 KB`, `144 MB`."""
    value, units = float(count), iter(("B", "KB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000:
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def _home(path: Path) -> str:
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def _entry(item: "Item", facts: "Facts") -> dict[str, Any]:
    return {
        "name": item.name,
        "below": item.below,
        "path": str(item.path),
        "size": item.size,
        "family": facts.family or None,
        "base": facts.title,
        "types": list(facts.types),
        "rank": facts.rank or None,
        "modules": facts.modules,
        "triggers": list(facts.triggers),
        "aliases": list(facts.aliases),
        "hash": facts.hash or None,
        "problem": facts.problem or None,
    }
