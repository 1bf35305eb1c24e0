"""`loraloom extract`: a mix of networks as one new file."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from loraloom.cli import options
from loraloom.cli.show import print_json, print_notes

if TYPE_CHECKING:
    from loraloom.extracting import Extracted


def extract(
    mix: Annotated[str, typer.Argument(help='The mix as a prompt writes it: "<lora:a:0.8><lora:b:te=0.4:unet=1>".', show_default=False)],
    output: Annotated[Path, typer.Argument(help="Where the new file goes: a .safetensors file.", show_default=False)],
    exact: Annotated[bool, typer.Option("--exact", help="Lose nothing: ranks add up. (what is done if none of these is given)")] = False,
    rank: Annotated[int | None, typer.Option(help="One rank for every module.", show_default=False)] = None,
    error: Annotated[
        float | None, typer.Option(help="The smallest rank for each module whose change is within this: 0.01.", show_default=False)
    ] = None,
    max_rank: Annotated[int | None, typer.Option(help="With --error: no rank above this.", show_default=False)] = None,
    components: Annotated[str | None, typer.Option(help="Only these: unet, text_encoder, ...; with commas.", show_default=False)] = None,
    dialect: Annotated[str, typer.Option(help="How its tensors are named: kohya, peft, ...")] = "kohya",
    dtype: Annotated[
        Literal["fp16", "bf16", "fp32"] | None, typer.Option(help="(default: fp32 with --exact, else fp16)", show_default=False)
    ] = None,
    base: Annotated[str | None, typer.Option(help="The base, for types whose change depends on its weights.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    lora_folder: options.LoraFolder = None,
    as_json: options.Json = False,
) -> None:
    """Save a mix of LoRAs as one new file, and say how far it is from the mix."""
    from loraloom.combine import CombineRequest
    from loraloom.errors import SettingsError
    from loraloom.session import Session

    if exact and (rank is not None or error is not None):
        raise SettingsError("--exact loses nothing, so it goes with neither --rank nor --error; give one")
    session = Session(lora_folders=lora_folder or ())
    parts = tuple(name.strip() for name in components.split(",")) if components is not None else None
    request = CombineRequest.of(
        mix=mix, rank=rank, error=error, max_rank=max_rank, components=parts, dialect=dialect, dtype=dtype, base=base
    )
    found = session.extract(request, output.expanduser(), overwrite=overwrite)
    if as_json:
        print_json(asdict(found) | {"path": str(found.path)})
        return
    print(found.path)
    print(_summary(found), file=sys.stderr)
    print_notes(found.warnings)


def _summary(found: "Extracted") -> str:
    least, most = found.ranks
    ranks = "" if not most else f", rank {most}" if least == most else f", ranks {least} to {most}"
    kinds = ", ".join(f"{kind} on {count}" for kind, count in found.types.items())
    lines = [f"{found.base}, {found.dialect} naming: {kinds} modules{ranks}, {found.dtype} ({found.method})"]
    if found.rows:
        worst = found.worst
        lines.append(f"from the mix: {found.error:.1e} as combined; as written at most {worst.written:.1e} ({worst.module})")
    return "\n".join(lines)
