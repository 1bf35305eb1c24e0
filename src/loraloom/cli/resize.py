"""`loraloom resize`: one network at a smaller rank."""

from typing import Annotated

import typer

from loraloom.cli import options
from loraloom.cli.extract import plot_path, print_extracted


def resize(
    file: Annotated[str, typer.Argument(help="A file, or a name in your library.", show_default=False)],
    output: options.NewFile,
    rank: options.Rank = None,
    error: options.Error = None,
    energy: options.Energy = None,
    max_rank: options.MaxRank = None,
    type: options.Type = None,
    factor: options.Factor = None,
    dialect: options.Dialect = "kohya",
    tool: options.Tool = None,
    dtype: Annotated[
        str | None,
        typer.Option(parser=options.number_format, metavar="[fp16|bf16|fp32]", help="(default: as most of it is)", show_default=False),
    ] = None,
    base: options.WeightsOf = None,
    plot: options.Plot = None,
    overwrite: options.Replace = False,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    as_json: options.Json = False,
) -> None:
    """Write a network at a smaller rank, and say how far it is from what it was."""
    from loraloom.combine import ResizeRequest
    from loraloom.session import Session

    request = options.asked(
        ResizeRequest.of,
        rank=rank,
        error=error,
        energy=energy,
        max_rank=max_rank,
        type=type,
        factor=factor,
        dialect=dialect,
        tool=tool,
        dtype=dtype,
        base=base,
    )
    drawn = plot_path(plot, overwrite=overwrite)
    session = Session(lora_folders=lora_folder or (), follow_links=follow_links)
    found = session.resize(file, request, session.new_file(output), overwrite=overwrite)
    print_extracted(found, "what it was", plot=drawn, overwrite=overwrite, as_json=as_json)
