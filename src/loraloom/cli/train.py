"""`loraloom train PICTURES`: a folder of pictures in, a LoRA out."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraloom.train.config import TrainConfig, read_config

if TYPE_CHECKING:
    from rich.console import Console

    from loraloom.train import Progress as Step
    from loraloom.train import TrainResult

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def _option(field: str, *names: str, **shape: Any) -> Any:
    """An option for a field of TrainConfig, with the field's own words as help."""
    return typer.Option(*names, help=TrainConfig.model_fields[field].description, show_default=False, **shape)


_JOB, _STEPS, _LOSS, _FILE = "What is trained", "Course of the run", "Pictures, captions, loss", "File and state"


def train(
    pictures: Annotated[Path, typer.Argument(help=TrainConfig.model_fields["pictures"].description)],
    trigger: Annotated[str | None, _option("trigger", "--trigger", "-t")] = None,
    base: Annotated[str | None, _option("base", "--base", "-b")] = None,
    output: Annotated[Path | None, _option("output", "--output", "-o")] = None,
    type_: Annotated[str | None, _option("type", "--type", rich_help_panel=_JOB)] = None,
    rank: Annotated[int | None, _option("rank", "--rank", rich_help_panel=_JOB)] = None,
    alpha: Annotated[float | None, _option("alpha", "--alpha", rich_help_panel=_JOB)] = None,
    conv_rank: Annotated[int | None, _option("conv_rank", "--conv-rank", rich_help_panel=_JOB)] = None,
    conv_alpha: Annotated[float | None, _option("conv_alpha", "--conv-alpha", rich_help_panel=_JOB)] = None,
    tucker: Annotated[bool | None, _option("tucker", "--tucker", rich_help_panel=_JOB)] = None,
    components: Annotated[list[str] | None, _option("components", "--component", rich_help_panel=_JOB)] = None,
    steps: Annotated[int | None, _option("steps", "--steps", "-n", rich_help_panel=_STEPS)] = None,
    batch: Annotated[int | None, _option("batch", "--batch", rich_help_panel=_STEPS)] = None,
    accumulate: Annotated[int | None, _option("accumulate", "--accumulate", rich_help_panel=_STEPS)] = None,
    learning_rate: Annotated[float | None, _option("learning_rate", "--lr", "--learning-rate", rich_help_panel=_STEPS)] = None,
    text_encoder_lr: Annotated[float | None, _option("text_encoder_learning_rate", "--text-encoder-lr", rich_help_panel=_STEPS)] = None,
    scheduler: Annotated[str | None, _option("scheduler", "--scheduler", rich_help_panel=_STEPS)] = None,
    warmup: Annotated[int | None, _option("warmup", "--warmup", rich_help_panel=_STEPS)] = None,
    optimizer: Annotated[str | None, _option("optimizer", "--optimizer", rich_help_panel=_STEPS)] = None,
    weight_decay: Annotated[float | None, _option("weight_decay", "--weight-decay", rich_help_panel=_STEPS)] = None,
    max_grad_norm: Annotated[float | None, _option("max_grad_norm", "--max-grad-norm", rich_help_panel=_STEPS)] = None,
    seed: Annotated[int | None, _option("seed", "--seed", rich_help_panel=_STEPS)] = None,
    min_snr_gamma: Annotated[float | None, _option("min_snr_gamma", "--min-snr-gamma", rich_help_panel=_LOSS)] = None,
    noise_offset: Annotated[float | None, _option("noise_offset", "--noise-offset", rich_help_panel=_LOSS)] = None,
    caption_dropout: Annotated[float | None, _option("caption_dropout", "--caption-dropout", rich_help_panel=_LOSS)] = None,
    caption_shuffle: Annotated[bool | None, _option("caption_shuffle", "--caption-shuffle", rich_help_panel=_LOSS)] = None,
    flip: Annotated[bool | None, _option("flip", "--flip", rich_help_panel=_LOSS)] = None,
    resolution: Annotated[int | None, _option("resolution", "--resolution", rich_help_panel=_LOSS)] = None,
    sample_prompts: Annotated[list[str] | None, _option("sample_prompts", "--sample", rich_help_panel=_FILE)] = None,
    sample_every: Annotated[int | None, _option("sample_every", "--sample-every", rich_help_panel=_FILE)] = None,
    save_every: Annotated[int | None, _option("save_every", "--save-every", rich_help_panel=_FILE)] = None,
    snapshots: Annotated[bool | None, _option("snapshots", "--snapshots", rich_help_panel=_FILE)] = None,
    dialect: Annotated[str | None, _option("dialect", "--dialect", rich_help_panel=_FILE)] = None,
    dtype: Annotated[str | None, _option("dtype", "--dtype", rich_help_panel=_FILE)] = None,
    title: Annotated[str | None, _option("title", "--title", rich_help_panel=_FILE)] = None,
    author: Annotated[str | None, _option("author", "--author", rich_help_panel=_FILE)] = None,
    license_: Annotated[str | None, _option("license", "--license", rich_help_panel=_FILE)] = None,
    description: Annotated[str | None, _option("description", "--description", rich_help_panel=_FILE)] = None,
    resume: Annotated[bool | None, _option("resume", "--resume", rich_help_panel=_FILE)] = None,
    overwrite: Annotated[bool | None, _option("overwrite", "--overwrite", rich_help_panel=_FILE)] = None,
    keep_state: Annotated[bool | None, _option("keep_state", "--keep-state", rich_help_panel=_FILE)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, and nothing else, to standard output")] = False,
) -> None:
    """Train a LoRA on a folder of pictures.

    Everything that is not given takes the base's defaults. Ctrl-C stops after the step that runs; the same command with
    --resume goes on, and ends with the very file that an undisturbed run makes.
    """
    given = dict(locals())
    renamed = {"type_": "type", "license_": "license", "text_encoder_lr": "text_encoder_learning_rate"}
    values = {renamed.get(name, name): value for name, value in given.items() if value is not None and name != "as_json"}
    if text_encoder_lr is not None and components is None:
        values["components"] = ("unet", "text_encoder")
    run(read_config(values), as_json=as_json)


def run(config: TrainConfig, *, as_json: bool) -> None:
    """Train, show how it goes on standard error, say what came out; exit code 130 after Ctrl-C."""
    from rich.console import Console

    from loraloom.session import Session
    from loraloom.train import TrainingStopped

    screen = Console(stderr=True)
    try:
        with _bar(screen) as progress:
            result = Session().train(config, progress=progress, note=lambda text: screen.print(f"[yellow]note[/] {_plain(text)}"))
    except TrainingStopped as stopped:
        screen.print(_plain(str(stopped)))
        raise typer.Exit(INTERRUPTED) from stopped
    except KeyboardInterrupt as interrupt:  # before the first step, or the second Ctrl-C
        screen.print("stopped; --resume goes on from the last saved state, if there is one")
        raise typer.Exit(INTERRUPTED) from interrupt
    typer.echo(_as_json(result) if as_json else _summary(result))


@contextmanager
def _bar(screen: "Console") -> "Iterator[Callable[[Step], None]]":
    """A progress bar with loss, steps a second and the time left; nothing where nobody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(now: "Step") -> None:
            words = {"encode": "reading pictures", "train": "training"}
            if now.stage not in tasks:
                tasks[now.stage] = bar.add_task(words[now.stage], told="")
            bar.update(tasks[now.stage], completed=now.step, total=now.steps, told=_told(now))

        yield show


def _told(now: "Step") -> str:
    if now.loss is None or now.rate is None or now.seconds_left is None:
        return ""
    minutes, seconds = divmod(round(now.seconds_left), 60)
    return f"loss {now.loss:.4f}   {now.rate:.2f} it/s   {minutes}:{seconds:02d} left"


def _plain(text: str) -> str:
    """Text in which rich finds no markup."""
    from rich.markup import escape

    return escape(text)


def _summary(result: "TrainResult") -> str:
    lines = [f"{result.path}: {result.modules} modules, {result.steps} steps, loss {result.final_loss:.4f}, {result.seconds:.0f} s"]
    if result.plot is not None:
        lines.append(f"loss plot: {result.plot}")
    if result.samples:
        lines.append(f"sample pictures: {result.samples[-1].parent}")
    return "\n".join(lines)


def _as_json(result: "TrainResult") -> str:
    return json.dumps(asdict(result), default=str, indent=2)
