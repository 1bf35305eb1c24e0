"""`loraloom extract`: a mix of networks, or what turns one checkpoint into another, as one new file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loraloom.cli import options, terminal
from loraloom.cli.show import print_notes
from loraloom.newfile import new_path

if TYPE_CHECKING:
    from loraloom.combine import OnModule
    from loraloom.extracting import Extracted


def extract(
    mix: Annotated[
        str | None,
        typer.Argument(
            help='The mix as a prompt writes it: "<lora:ink:0.8><lora:neon:te=0.4:unet=1>"; none with --tuned.', show_default=False
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Argument(help="The new file: a name in your library, or a path such as ./mixed.safetensors.", show_default=False)
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Lose nothing: ranks add up. (what is done if none of these is given)")] = False,
    rank: options.Rank = None,
    error: options.Error = None,
    energy: options.Energy = None,
    max_rank: options.MaxRank = None,
    type: options.Type = None,
    factor: options.Factor = None,
    components: Annotated[str | None, typer.Option(help="Only these: unet, text_encoder, ...; with commas.", show_default=False)] = None,
    dialect: options.Dialect = "kohya",
    tool: options.Tool = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            parser=options.number_format, metavar="[fp16|bf16|fp32]", help="(default: fp32 with --exact, else fp16)", show_default=False
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base of --tuned, or of types whose change depends on its weights.", show_default=False)
    ] = None,
    tuned: Annotated[
        str | None,
        typer.Option(help="Instead of a mix: what turns --base into this checkpoint, a folder or a file.", show_default=False),
    ] = None,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Take the mean of strengths that change by step: a file has one for all.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(help="With --flatten: the steps of the run. (default: as many as the base usually takes)", show_default=False),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Compare what the base puts out with the mix and with the file: it is opened for that.")
    ] = False,
    plot: options.Plot = None,
    overwrite: options.Replace = False,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    as_json: options.Json = False,
) -> None:
    """Save a mix of LoRAs as one new file, or the LoRA that makes one checkpoint of another; and say how far it is from that.

    A mix: loraloom extract "<lora:ink:0.8><lora:neon:0.4>" OUTPUT. Two checkpoints: loraloom extract --base A --tuned B --rank 64 OUTPUT.
    """
    from loraloom.combine import CombineRequest
    from loraloom.errors import SettingsError
    from loraloom.session import Session

    if exact and any(size is not None for size in (rank, error, energy)):
        raise SettingsError("--exact loses nothing, so it goes with none of --rank, --error and --energy; give one")
    mix, output = _arguments(mix, output, tuned)
    drawn = plot_path(plot, overwrite=overwrite)
    session = Session(lora_folders=lora_folder or (), follow_links=follow_links)
    parts = tuple(name.strip() for name in components.split(",")) if components is not None else None
    request = options.asked(
        CombineRequest.of,
        mix=mix or "",
        tuned=tuned,
        rank=rank,
        error=error,
        energy=energy,
        max_rank=max_rank,
        type=type,
        factor=factor,
        components=parts,
        dialect=dialect,
        tool=tool,
        dtype=dtype,
        base=base,
        flatten=flatten,
        steps=steps,
    )
    with _bar(shown=tuned is not None) as on_module:
        found = session.extract(request, session.new_file(output), live=live, on_module=on_module, overwrite=overwrite)
    print_extracted(found, "the mix" if tuned is None else "the difference", plot=drawn, overwrite=overwrite, as_json=as_json)


def plot_path(plot: str | None, *, overwrite: bool) -> Path | None:
    """Where the plot goes. Raises before the work what would stop the plot after it: another ending, a file there, no matplotlib."""
    from loraloom import plotting
    from loraloom.atomic import refuse_existing
    from loraloom.errors import SettingsError

    if plot is None:
        return None
    path = new_path(plot, ending=".png")
    if path.suffix.lower() != ".png":
        raise SettingsError(f"--plot {plot}: a plot is a PNG file; let its name end in .png")
    refuse_existing(path, overwrite=overwrite)
    plotting.require()
    return path


def _arguments(mix: str | None, output: str | None, tuned: str | None) -> tuple[str | None, str]:
    """With --tuned, the one argument that is given is the output. Raises SettingsError for one too many or too few."""
    from loraloom.errors import SettingsError

    if tuned is not None:
        if mix is None or output is not None:
            what = f"there is no mix beside it, and there is {mix!r}" if output is not None else "the name of the new file is missing"
            raise SettingsError(f"--tuned: {what}: loraloom extract --base A --tuned B --rank 64 OUTPUT")
        return None, mix
    if mix is None or output is None:
        what = f"there is {mix!r} alone" if mix is not None else "nothing is given"
        raise SettingsError(f'{what}: loraloom extract "<lora:ink:0.8><lora:neon:0.4>" OUTPUT, or --base A --tuned B --rank 64 OUTPUT')
    return mix, output


@contextmanager
def _bar(*, shown: bool) -> "Iterator[OnModule]":
    """The modules that are done, on stderr; nothing where stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    from loraloom.cli.screen import Screen

    console = Screen(on_stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("comparing modules", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def print_extracted(found: "Extracted", source: str, *, plot: Path | None, overwrite: bool, as_json: bool) -> None:
    """Where the new file is on stdout, and on stderr what is in it and how far it is from its source; the plot is drawn if asked for."""
    if plot is not None:
        found.plot(plot, overwrite=overwrite)
    if as_json:
        terminal.out_json(asdict(found) | {"path": str(found.path)})
        return
    terminal.out(terminal.line(found.path))
    terminal.err(_summary(found, source))
    if plot is not None:
        terminal.err(f"plot: {terminal.line(plot)}")
    print_notes(found.warnings)


def _summary(found: "Extracted", source: str) -> str:
    least, most = found.ranks
    ranks = "" if not most else f", rank {most}" if least == most else f", ranks {least} to {most}"
    kinds = ", ".join(f"{kind} on {count}" for kind, count in found.types.items())
    lines = [f"{found.base}, {found.dialect} naming: {kinds} modules{ranks}, {found.dtype} ({found.method})"]
    if found.flattened:
        lines.append(f"flattened: the mean over {found.flattened.steps} steps is {found.flattened.mix}")
    if found.rows:
        worst, furthest = found.worst, found.furthest
        lines.append(f"from {source}: {found.error:.1e} as combined; as written at most {worst.written:.1e} ({worst.module})")
        lines.append(f"of what modules put out for a fixed random input: at most {furthest.output:.1e} ({furthest.module})")
    if found.outputs:
        parts = ", ".join(f"{component} {error:.1e}" for component, error in found.outputs.items())
        lines.append(f"of what the mix changes in the base's own output: {parts}")
    return "\n".join(lines)
