"""`loraloom train PICTURES`: a folder of pictures in, a LoRA out."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.core import TyperCommand

from loraloom.cli import terminal
from loraloom.cli.course import Lines
from loraloom.newfile import new_file, new_path
from loraloom.settings import Settings
from loraloom.train.config import PARTS, Flags, JobFile, TrainConfig, read_config
from loraloom.train.config import save_config as write_config
from loraloom.train.config.kohya import arguments
from loraloom.train.config.resolved import usual_name

if TYPE_CHECKING:
    from loraloom.cli.screen import Screen
    from loraloom.train import Progress as Step
    from loraloom.train import TrainResult

INTERRUPTED = 130  # 128 + SIGINT, as shells count


class Train(TyperCommand):
    """Understands the options of kohya's trainer too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arguments(args))


def train(config: Path | None, save_config: str | None, as_json: bool, dry_run: bool, **given: Any) -> None:
    """Train a LoRA on a folder of pictures.

    Everything that is not given takes the base's defaults. Ctrl-C stops after the step that runs; the same command with
    --resume goes on, and ends with the very file that an undisturbed run makes.
    """
    values = {name: value for name, value in given.items() if value is not None}
    job = _job(config, values)
    if save_config is not None:
        _save(job, new_path(save_config, ending=".toml"))
    if dry_run:
        look(job, as_json=as_json)
    else:
        run(job, as_json=as_json)


def _job(path: Path | None, options: dict[str, Any]) -> TrainConfig:
    """The file's job, if there is one, with these options in place of its own; an error says the line of what is wrong in the file.
    Its output is where the new network lies: under a bare name in the library."""
    file = JobFile.read(path) if path is not None else None
    values = (file.anchored() if file else {}) | options
    job = read_config(values, lambda name: file.where(name) if file and name not in options else "")
    usual = usual_name(job)
    return job.model_copy(update={"output": new_file(usual if job.output is None else job.output, Settings.load(), usual=usual)})


def _save(config: TrainConfig, path: Path) -> None:
    """The whole job as it will run, in a file."""
    from loraloom.session import Session

    saved = write_config(Session().resolve(config), path, given=config.model_fields_set, overwrite=config.overwrite)
    terminal.err(f"the job: {terminal.line(saved)}")


def _parameters() -> Iterator[inspect.Parameter]:
    """An option for each field of TrainConfig, with the field's own words as help."""
    for part in PARTS:
        for name in part.model_fields:
            field = TrainConfig.model_fields[name]
            kind, told = _typed(field.annotation), (field.description or "").replace("[", r"\[")  # no markup of rich
            if field.is_required():
                yield _parameter(name, Annotated[kind | None, typer.Argument(help=told, show_default=False)], None)
            else:
                flags = next((each.names for each in field.metadata if isinstance(each, Flags)), _flags(name, kind))
                option = typer.Option(*flags, help=told, show_default=False, rich_help_panel=part.panel or None)
                yield _parameter(name, Annotated[kind | None, option], None)
    words = typer.Option(help="read the job from a .toml or .json file; options given here count more", show_default=False)
    yield _parameter("config", Annotated[Path | None, words], None)
    words = typer.Option(help="write the whole job, as it will run, to a .toml or .json file", show_default=False)
    yield _parameter("save_config", Annotated[str | None, words], None)
    words = typer.Option("--json", help="print the result as JSON, and nothing else, to standard output")
    yield _parameter("as_json", Annotated[bool, words], False)
    words = typer.Option("--dry-run", help="stop before the model is loaded, and show what the run would read, need and write")
    yield _parameter("dry_run", Annotated[bool, words], False)


def _flags(name: str, kind: Any) -> tuple[str, ...]:
    """A switch has its opposite, which turns off what a file turns on, where that is not another option: `--resume`, `--no-resume`."""
    flag = f"--{name.replace('_', '-')}"
    opposite = name.removeprefix("no_") if name.startswith("no_") else f"no_{name}"
    if kind is not bool or opposite in TrainConfig.model_fields:
        return (flag,)
    return (f"{flag}/--{opposite.replace('_', '-')}",)


def _parameter(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _typed(annotation: Any) -> Any:
    """What typer reads from a word: choices are checked by the job itself, which has a better message."""
    options = [each for each in get_args(annotation) if each is not type(None)]
    if get_origin(annotation) in (Union, UnionType):
        return _typed(options[0])
    if get_origin(annotation) is tuple:
        return list[options[0]]  # type: ignore[valid-type]
    return str if get_origin(annotation) is Literal else annotation


_signature = inspect.Signature(list(_parameters()))
train.__signature__ = _signature  # type: ignore[attr-defined]
train.__annotations__ = {name: parameter.annotation for name, parameter in _signature.parameters.items()}


def look(config: TrainConfig, *, as_json: bool) -> None:
    """Show the run without running it; exit code 1 if something would stop it."""
    from loraloom.cli import preflight
    from loraloom.cli.screen import Screen
    from loraloom.session import Session

    with _bar(Screen(on_stderr=True)) as progress:
        facts = Session().preflight(config, progress).facts
    if as_json:
        terminal.out_json(preflight.document(facts))
    else:
        preflight.show(facts)
    if facts.problems:
        raise typer.Exit(1)


def run(config: TrainConfig, *, as_json: bool) -> None:
    """Train, show how it goes on standard error, say what came out; exit code 130 after Ctrl-C."""
    from loraloom.cli.screen import Screen
    from loraloom.session import Session
    from loraloom.train import TrainingStopped

    screen = Screen(on_stderr=True)
    try:
        with _bar(screen) as progress:
            result = Session().train(config, progress=progress, note=lambda text: screen.say(text, mark="note"))
    except TrainingStopped as stopped:
        screen.say(str(stopped))
        raise typer.Exit(INTERRUPTED) from stopped
    except KeyboardInterrupt as interrupt:  # before the first step, or the second Ctrl-C
        screen.say("stopped; --resume goes on from the last saved state, if there is one")
        raise typer.Exit(INTERRUPTED) from interrupt
    if as_json:
        terminal.out_json(asdict(result))
    else:
        terminal.out(_summary(result))


@contextmanager
def _bar(screen: "Screen") -> "Iterator[Callable[[Step], None]]":
    """A progress bar with loss, steps a second and the time left; lines where no terminal shows one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        tasks: dict[str, Any] = {}
        words = {"look": "looking at pictures", "encode": "encoding pictures", "train": "training"}
        lines = Lines(screen.say)

        def show(now: "Step") -> None:
            if not screen.is_terminal:
                lines.show(words[now.stage], now.step, now.steps, _told(now))
                return
            if now.stage not in tasks:
                tasks[now.stage] = bar.add_task(words[now.stage], told="")
            bar.update(tasks[now.stage], completed=now.step, total=now.steps, told=_told(now))

        yield show


def _told(now: "Step") -> str:
    if now.loss is None or now.learning_rate is None or now.rate is None or now.seconds_left is None:
        return ""
    minutes, seconds = divmod(round(now.seconds_left), 60)
    return f"loss {now.loss:.4f}   lr {now.learning_rate:.2e}   {now.rate:.2f} it/s   {minutes}:{seconds:02d} left"


def _summary(result: "TrainResult") -> str:
    lines = [f"{result.path}: {result.modules} modules, {result.steps} steps, loss {result.final_loss:.4f}, {result.seconds:.0f} s"]
    lines += [f"the same in another naming: {path}" for path in result.others]
    if result.best is not None:
        lines.append(f"best step: {result.best[0]} (step {result.best[1]})")
    if result.held_out:
        lines.append(result.held_out)
    if result.plot is not None:
        lines.append(f"loss plot: {result.plot}")
    if result.samples:
        lines.append(f"sample pictures: {result.samples[-1].parent}")
    return "\n".join(lines)
