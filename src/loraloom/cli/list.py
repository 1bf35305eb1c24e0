"""`loraloom list`: the LoRAs of the library. Headers only."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraloom.cli import options, terminal
from loraloom.cli.show import print_notes
from loraloom.home import expanded, shortened

if TYPE_CHECKING:
    from loraloom.catalogue import Catalogue, Facts, Item, LeftOut


def list_loras(
    words: Annotated[
        list[str] | None, typer.Argument(help="Only those with all of these words in name, place, family, type, triggers or tags.")
    ] = None,
    family: Annotated[str | None, typer.Option(help='Only those for this base, such as sdxl or "SD 1.x".')] = None,
    type: Annotated[str | None, typer.Option(help="Only those with adapters of this type, such as lora.")] = None,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    as_json: options.Json = False,
) -> None:
    """List the LoRAs in your folders: name, base, type, trigger words, size and place."""
    from loraloom.catalogue import Catalogue
    from loraloom.settings import Settings

    settings = Settings.load()
    folders = [*settings.library, *(expanded(folder) for folder in lora_folder or ())]
    catalogue = Catalogue(folders, index=settings.library_index, follow_links=follow_links or settings.follow_links)
    catalogue.complete()
    shown = [(item, catalogue.facts(item)) for item in catalogue.search(" ".join(words or ()), family=family, type=type)]
    if as_json:
        terminal.out_json([_entry(catalogue, item, facts) for item, facts in shown])
    elif shown:
        _print_table(catalogue, shown)
    else:
        where = ", ".join(str(folder) for folder in catalogue.folders) or "no folder; give one with --lora-folder or in the settings"
        terminal.err(f"no LoRAs in {where}" if not catalogue.items else f"none of {len(catalogue.items)} LoRAs is like this")
    print_notes(note for _, facts in shown for note in facts.beside)
    print_notes(_left_out(catalogue.left_out))
    if catalogue.index.problem:
        print_notes([catalogue.index.problem])


def _print_table(catalogue: "Catalogue", shown: "list[tuple[Item, Facts]]") -> None:
    from rich.table import Table

    from loraloom.cli.page import size
    from loraloom.cli.screen import Screen, cell

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("name", "base", "type", "triggers"):
        table.add_column(title, overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold", style="dim")
    for item, facts in shown:
        if not facts.problem:
            kinds = "+".join(facts.types) + (f" {facts.rank}" if facts.rank else "")
            words, where = cell(_few(facts.triggers)), cell(_home(item.path.parent))
            table.add_row(cell(catalogue.tag(item)), cell(facts.title), cell(kinds), words, size(item.size), where)
    if table.row_count:
        Screen().table(table)
    broken = [f"{catalogue.tag(item)} ({_home(item.path.parent)}): {facts.problem}" for item, facts in shown if facts.problem]
    for sentence in broken:  # last, where they hide nothing, and each a line: a column of the table would break its words
        terminal.out(terminal.line(sentence))
    if broken:
        print_notes([f"{len(broken)} of {len(shown)} files cannot be used; the list ends with them and their reasons"])


def _left_out(entries: "Iterable[LeftOut]") -> Iterator[str]:
    """A sentence for each reason, with the first few of its entries."""
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        by_reason.setdefault(f"{entry.reason}{entry.advice}", []).append(entry.place.below)
    for reason, names in by_reason.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{', '.join(names[:3])}{more}: {reason}"


def _few(words: tuple[str, ...]) -> str:
    return ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")


def _home(path: Path) -> str:
    return shortened(Path(_text(path)))


def _entry(catalogue: "Catalogue", item: "Item", facts: "Facts") -> dict[str, Any]:
    return {
        "id": item.id,
        "name": item.name,
        "tag": catalogue.tag(item),
        "below": item.below,
        "path": _text(item.path),
        "size": item.size,
        "modified": item.modified.isoformat(),
        "family": facts.family or None,
        "base": facts.title,
        "types": list(facts.types),
        "rank": facts.rank or None,
        "modules": facts.modules,
        "triggers": list(facts.triggers),
        "tags": list(facts.tags),
        "aliases": list(facts.aliases),
        "hash": facts.hash or None,
        "strength": facts.strength,
        "made_for": facts.base_told or None,
        "favorite": facts.favorite,
        "notes": facts.notes or None,
        "preview": _text(facts.preview) if facts.preview else None,
        "problem": facts.problem or None,
        "notices": list(facts.beside),
    }


def _text(path: Path) -> str:
    """A path that can be printed: bytes that are no text become �."""
    return os.fsencode(path).decode("utf-8", "replace")
