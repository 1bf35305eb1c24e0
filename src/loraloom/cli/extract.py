"""`loraloom extract`: a mix of networks as one new file."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from loraloom.cli import options
from loraloom.cli.show import print_json, print_notes

if TYPE_CHECKING:
    from loraloom.extracting import Extracted


def extract(
    mix: Annotated[str, typer.Argument(help='The mix as a prompt writes it: "<lora:a:0.8><lora:b:te=0.4:unet=1>".', show_default=False)],
    output: options.NewFile,
    exact: Annotated[bool, typer.Option("--exact", help="Lose nothing: ranks add up. (what is done if none of these is given)")] = False,
    rank: options.Rank = None,
    error: options.Error = None,
    energy: options.Energy = None,
    max_rank: options.MaxRank = None,
    type: options.Type = None,
    factor: options.Factor = None,
    components: Annotated[str | None, typer.Option(help="Only these: unet, text_encoder, ...; with commas.", show_default=False)] = None,
    dialect: options.Dialect = "kohya",
    dtype: Annotated[
        Literal["fp16", "bf16", "fp32"] | None, typer.Option(help="(default: fp32 with --exact, else fp16)", show_default=False)
    ] = None,
    base: options.WeightsOf = None,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Take the mean of strengths that change by step: a file has one for all.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(help="With --flatten: the steps of the run. (default: as many as the base usually takes)", show_default=False),
    ] = None,
    overwrite: options.Replace = False,
    lora_folder: options.LoraFolder = None,
    as_json: options.Json = False,
) -> None:
    """Save a mix of LoRAs as one new file, and say how far it is from the mix."""
    from loraloom.combine import CombineRequest
    from loraloom.errors import SettingsError
    from loraloom.session import Session

    if exact and any(size is not None for size in (rank, error, energy)):
        raise SettingsError("--exact loses nothing, so it goes with none of --rank, --error and --energy; give one")
    session = Session(lora_folders=lora_folder or ())
    parts = tuple(name.strip() for name in components.split(",")) if components is not None else None
    request = CombineRequest.of(
        mix=mix,
        rank=rank,
        error=error,
        energy=energy,
        max_rank=max_rank,
        type=type,
        factor=factor,
        components=parts,
        dialect=dialect,
        dtype=dtype,
        base=base,
        flatten=flatten,
        steps=steps,
    )
    found = session.extract(request, output.expanduser(), overwrite=overwrite)
    print_extracted(found, "the mix", as_json=as_json)


def print_extracted(found: "Extracted", source: str, *, as_json: bool) -> None:
    """Where the new file is on stdout, and on stderr what is in it and how far it is from its source."""
    if as_json:
        print_json(asdict(found) | {"path": str(found.path)})
        return
    print(found.path)
    print(_summary(found, source), file=sys.stderr)
    print_notes(found.warnings)


def _summary(found: "Extracted", source: str) -> str:
    least, most = found.ranks
    ranks = "" if not most else f", rank {most}" if least == most else f", ranks {least} to {most}"
    kinds = ", ".join(f"{kind} on {count}" for kind, count in found.types.items())
    lines = [f"{found.base}, {found.dialect} naming: {kinds} modules{ranks}, {found.dtype} ({found.method})"]
    if found.flattened:
        lines.append(f"flattened: the mean over {found.flattened.steps} steps is {found.flattened.mix}")
    if found.rows:
        worst = found.worst
        lines.append(f"from {source}: {found.error:.1e} as combined; as written at most {worst.written:.1e} ({worst.module})")
    return "\n".join(lines)
