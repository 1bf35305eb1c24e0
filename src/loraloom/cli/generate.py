"""`loraloom generate`: pictures from a prompt."""

import base64
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraloom.cli import options, terminal
from loraloom.cli.show import print_notes, progress_bar
from loraloom.errors import NotFound, SettingsError
from loraloom.home import expanded

if TYPE_CHECKING:
    from loraloom.generate.jobs import Picture
    from loraloom.session import Explained


def generate(
    prompt: Annotated[str, typer.Argument(help="Text, and LoRAs as tags: 'a castle at night <lora:ink:0.8>'.", show_default=False)],
    negative: options.Negative = "",
    pictures: Annotated[int, typer.Option("-n", "--pictures", help="How many; picture i has the seed plus i.")] = 1,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    width: options.Width = None,
    height: options.Height = None,
    sampler: options.Sampler = None,
    base: options.Base = None,
    image: Annotated[
        Path | None, typer.Option("-i", "--image", help="A picture to begin with instead of noise.", show_default=False)
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="What of it is drawn anew: white is, black stays.", show_default=False)
    ] = None,
    denoise: Annotated[
        float | None,
        typer.Option(help="How far from the picture: the part of the steps that is run, up to 1. (default: 0.75)", show_default=False),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="A .png file, or a folder. (default: outputs/0001-prompt.png)", show_default=False)
    ] = None,
    overwrite: options.Overwrite = False,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    mode: options.Mode = "auto",
    loader: options.Loader = None,
    force: options.Force = False,
    strict: options.Strict = False,
    skip_missing: options.SkipMissing = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what the LoRAs of the prompt would do to this base, and draw nothing.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Draw pictures from a prompt, with any number of LoRAs, and print where they are."""
    from loraloom.cli.output import Output
    from loraloom.generate.request import ImageRequest
    from loraloom.prompts import parse
    from loraloom.session import Session

    if image is None and (mask or denoise is not None):
        raise SettingsError(f"{'--mask' if mask else '--denoise'} is about a picture to begin with; give it with --image, or leave it out")
    request = options.asked(
        ImageRequest.of,
        prompt=prompt,
        negative_prompt=negative,
        pictures=pictures,
        seed=seed,
        steps=steps,
        guidance=guidance,
        width=width,
        height=height,
        sampler=sampler,
        image=_encoded(image, "--image"),
        mask=_encoded(mask, "--mask"),
        **({} if denoise is None else {"denoise": denoise}),
        base=base,
        mode=mode,
        loader=loader,
        force=force,
        strict=strict,
        skip_missing=skip_missing,
    )
    session = Session(lora_folders=lora_folder or (), follow_links=follow_links)
    if explain:
        _explain(session.explain(request), as_json=as_json)
        return
    place = Output.of(session.settings.output_folder if output is None else output, pictures=pictures, overwrite=overwrite)
    paths: list[Path] = []

    def save(index: int, picture: "Picture") -> None:
        paths.append(place.save(picture.image, str(picture.recipe), title=parse(prompt).text, index=index))

    started = time.perf_counter()
    try:
        with progress_bar(f"opening {base or session.settings.base}") as on_step:
            drawn = session.generate(request, on_step, save)
    finally:  # what was finished before a mistake or Ctrl-C is on the disk: say where
        if not as_json:
            for path in paths:
                terminal.out(terminal.line(path))
    seconds = time.perf_counter() - started
    if as_json:
        terminal.out_json(_document(drawn, paths, seconds))
    else:
        _print_networks(drawn[0])
        print_notes(note for picture in drawn for note in picture.notes)


def _encoded(path: Path | None, option: str) -> str | None:
    """The file as a request takes it; raises NotFound for one that cannot be read, SettingsError for one that is no picture."""
    if path is None:
        return None
    from loraloom.generate.source import decode

    if expanded(path).is_dir():
        raise SettingsError(f"{option} {path}: this is a folder; give a PNG, JPEG or WebP file")
    try:
        text = base64.b64encode(expanded(path).read_bytes()).decode()
    except OSError as error:
        raise NotFound(f"{option} {path}: this picture cannot be read: {error.strerror or error}") from error
    decode(text, f"{option} {path}")
    return text


def _explain(explained: "Explained", *, as_json: bool) -> None:
    report, style = explained.report, explained.style
    if as_json:
        document = {"base": explained.model, "style": asdict(style), "report": asdict(report) if report else None, "notes": explained.notes}
        terminal.out_json(document)
        return
    guidance = "" if style.guidance is None else f", guidance {style.guidance:g}"
    terminal.out(f"{terminal.line(explained.model)}: {style.steps} steps{guidance}")
    terminal.out(report.details if report else "no LoRAs in the prompt")
    print_notes(explained.notes)


def _print_networks(picture: "Picture") -> None:
    for network in picture.report.networks if picture.report else ():
        terminal.err(f"{terminal.line(network.name)}: {network.summary}")


def _document(drawn: "Sequence[Picture]", paths: list[Path], seconds: float) -> dict[str, Any]:
    report = drawn[0].report
    return {
        "pictures": [
            {"path": str(path.resolve()), "seed": picture.seed, "recipe": asdict(picture.recipe)}
            for path, picture in zip(paths, drawn, strict=True)
        ],
        "mode": report.mode if report else None,
        "reason": report.reason if report else None,
        "networks": [asdict(network) for network in report.networks] if report else [],
        "notes": list(dict.fromkeys(note for picture in drawn for note in picture.notes)),
        "seconds": round(seconds, 3),
    }
