"""`loraloom convert`: the same network in another naming, type or precision."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from loraloom.cli import options, terminal
from loraloom.cli.show import print_notes
from loraloom.newfile import new_folder

if TYPE_CHECKING:
    from loraloom.converting import Converted


def convert(
    file: Annotated[str, typer.Argument(help="A file, or a name in your library. .pt, .ckpt and .bin too.", show_default=False)],
    output: options.NewFile,
    dialect: Annotated[
        str | None, typer.Option(help="How its tensors are named: kohya, peft, ... (default: kohya)", show_default=False)
    ] = None,
    tool: options.Tool = None,
    plain: options.Plain = False,
    type: options.Type = None,
    rank: options.Rank = None,
    error: options.Error = None,
    energy: options.Energy = None,
    max_rank: options.MaxRank = None,
    factor: options.Factor = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            parser=options.number_format,
            metavar="[fp16|bf16|fp32]",
            help="Precision of its tensors. (default: as they are)",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="The family, for a file that does not tell it: sdxl, a folder, a checkpoint. With --for and --plain its weights are read.",
            show_default=False,
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Leave out modules with NaN or infinite values, and write metadata that says what the tensors have."),
    ] = False,
    overwrite: options.Replace = False,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    as_json: options.Json = False,
) -> None:
    """Write a network in another naming, as another type or in another precision, and print where it is."""
    from loraloom.combine import Goal
    from loraloom.dialects.readers import naming
    from loraloom.session import Session

    goal = Goal(rank, error, energy, max_rank, type, factor)
    session = Session(lora_folders=lora_folder or (), follow_links=follow_links)
    target = new_folder(output) if naming(tool, dialect or "kohya").folder else session.new_file(output)
    found = session.convert(
        file,
        target,
        dialect=dialect,
        tool=tool,
        goal=goal,
        plain=plain,
        dtype=dtype,
        base=base,
        repair=repair,
        overwrite=overwrite,
    )
    if as_json:
        terminal.out_json(asdict(found) | {"path": str(found.path)})
        return
    terminal.out(terminal.line(found.path))
    terminal.err(_summary(found))
    for sentence in found.repaired:
        terminal.err(f"repaired: {sentence}")
    print_notes(found.warnings)
    if found.left_out:
        more = f", and {len(found.left_out) - 1} more" if len(found.left_out) > 1 else ""
        print_notes([f"{len(found.left_out)} entries of the source are left out: {found.left_out[0]}{more}"])


def _summary(found: "Converted") -> str:
    kinds = ", ".join(f"{kind} on {count}" for kind, count in found.types.items())
    same = "no value rounded" if found.errors else "every value as it was"
    lost = f"values moved by up to {found.rounding:.1e} of the largest ({found.worst})" if found.rounding else same
    reader = f" for {found.tool}" if found.tool else ""
    line = f"{found.base}, {found.dialect} naming{reader}: {kinds} modules, {found.dtype}; {lost}"
    if not found.errors:
        return line
    worst = max(found.errors, key=found.errors.__getitem__)
    return f"{line}\napproximated: {len(found.errors)} modules, the farthest by {found.errors[worst]:.1e} of its change ({worst})"
