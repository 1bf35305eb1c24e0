"""`loraloom edit`: other metadata for a file, or a part of its modules alone."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from loraloom.cli import options, terminal
from loraloom.cli.show import print_notes
from loraloom.errors import SettingsError

if TYPE_CHECKING:
    from loraloom.editing import Edited
    from loraloom.session import Session

_SHOWN = 64  # characters of a value


def edit(
    file: Annotated[str, typer.Argument(help="A file, or a name in your library.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Argument(
            help="The changed file: a name in your library, or a path such as ./ink.safetensors. (default: the file itself is changed)",
            show_default=False,
        ),
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help='The words that start it, with commas: "zvz, flat". (modelspec.trigger_phrase)', show_default=False)
    ] = None,
    title: Annotated[str | None, typer.Option(help="Its name for people. (modelspec.title)", show_default=False)] = None,
    author: Annotated[str | None, typer.Option(help="Who made it. (modelspec.author)", show_default=False)] = None,
    license: Annotated[str | None, typer.Option(help="How it may be used. (modelspec.license)", show_default=False)] = None,
    description: Annotated[str | None, typer.Option(help="What it does. (modelspec.description)", show_default=False)] = None,
    set: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, any key; may be repeated.", show_default=False)] = None,
    unset: Annotated[list[str] | None, typer.Option("--unset", help="A key to take out; may be repeated.", show_default=False)] = None,
    only: Annotated[
        str | None,
        typer.Option(help="The parts that stay: te, unet, text_encoder_2, in, mid, out, OUT03, ...; with commas.", show_default=False),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="With --only: the family, for a file that does not tell it: sdxl, a folder, a checkpoint.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there under the second name.")] = False,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    as_json: options.Json = False,
) -> None:
    """Change the metadata of a file, or leave only a part of it; without options, show its metadata.

    The tensors that stay keep their bytes, names and precision. An empty text takes an entry out.
    """
    from loraloom.session import Session

    session = Session(lora_folders=lora_folder or (), follow_links=follow_links)
    named = {"trigger_phrase": _words(trigger), "title": title, "author": author, "license": license, "description": description}
    _refuse_empty(named, file, session)
    changes = _changes({f"modelspec.{key}": value for key, value in named.items() if value is not None}, set or [], unset or [])
    if not changes and only is None and output is None:
        _show(session.metadata(file), as_json=as_json)
        return
    parts = tuple(word.strip() for word in only.split(",")) if only is not None else ()
    target = None if output is None else session.new_file(output)
    found = session.edit(file, target, changes=changes, only=parts, base=base, overwrite=overwrite)
    if as_json:
        changed = [change._asdict() for change in found.changes]
        terminal.out_json(asdict(found) | {"path": str(found.path), "changes": changed})
        return
    terminal.out(terminal.line(found.path))
    for line in _summary(found):
        terminal.err(line)
    print_notes(found.warnings)
    if found.unknown:
        more = f", and {len(found.unknown) - 1} more" if len(found.unknown) > 1 else ""
        print_notes([f"{len(found.unknown)} tensors belong to no module and stay: {found.unknown[0]}{more}"])


def _refuse_empty(named: Mapping[str, str | None], file: str, session: "Session") -> None:
    """Raises SettingsError for an option with an empty text where the file has nothing to take out."""
    emptied = [key for key, value in named.items() if value == ""]
    known = session.metadata(file) if emptied else {}
    for key in emptied:
        if f"modelspec.{key}" not in known:
            option = "trigger" if key == "trigger_phrase" else key
            raise SettingsError(f"--{option} with an empty text takes it out, and {file} has none; leave the option out")


def _words(text: str | None) -> str | None:
    """Words with commas as they are stored: each once, without spaces around."""
    return None if text is None else ", ".join(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _changes(named: dict[str, str], given: list[str], out: list[str]) -> dict[str, str | None]:
    """What is asked for, by key; None takes a key out. Raises SettingsError for a key that is asked for twice."""
    found: dict[str, str | None] = {}
    pairs = [item.partition("=") for item in given]
    for item, (key, mark, _) in zip(given, pairs, strict=True):
        if not key.strip() or not mark:
            raise SettingsError(f'--set takes KEY=VALUE, such as --set modelspec.title=Ink, not "{item}"')
    for key, value in (*named.items(), *((key.strip(), value) for key, _, value in pairs), *((key, "") for key in out)):
        if key in found:
            raise SettingsError(f"{key} is given twice; leave one out")
        found[key] = value or None
    return found


def _show(metadata: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        terminal.out_json(dict(metadata))
        return
    for key, value in metadata.items():
        terminal.out(f"{_short(key)} = {_short(value)}")


def _summary(found: "Edited") -> Iterator[str]:
    """One line for each change, before and after."""
    if not found.written:
        yield "nothing to change: the file says all of that already"
    for change in found.changes:
        before, after = ("–" if value is None else _short(value) for value in (change.before, change.after))
        yield f"  {_short(change.key)}: {before} → {after}"
    if found.kept:
        from loraloom.cli.page import size

        kept, left = (", ".join(f"{name} {count}" for name, count in part.items()) for part in (found.kept, found.left_out))
        yield f"  modules: {kept} stay" + (f"; {left} left out" if left else "; nothing is left out")
        yield f"  tensors: {found.tensors[0]} → {found.tensors[1]}, {size(found.size[0])} → {size(found.size[1])}"


def _short(value: str) -> str:
    """A stranger's text on one line."""
    text = " ".join(terminal.clean(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(value):,} characters)"
