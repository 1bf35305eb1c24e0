"""`loraloom grid`: one sheet, a row for each prompt, a column for each LoRA, strength or mix."""

from typing import Annotated

import typer

from loraloom.cli import options, terminal
from loraloom.cli.show import print_notes, progress_bar
from loraloom.errors import SettingsError


def grid(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="A row for each.", show_default=False)],
    lora: Annotated[list[str] | None, typer.Option(help="A LoRA to compare, by name; may be repeated.")] = None,
    strengths: Annotated[str, typer.Option(help="For each --lora. 0 is the first column, the base alone.")] = "0,0.5,1",
    column: Annotated[list[str] | None, typer.Option(help="A column of your own: 'label=<lora:ink:0.5> <lora:neon:1>'.")] = None,
    negative: options.Negative = "",
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    width: options.Width = None,
    height: options.Height = None,
    sampler: options.Sampler = None,
    base: options.Base = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="A .png file, or a folder. (default: outputs/0001-grid.png)", show_default=False)
    ] = None,
    overwrite: options.Overwrite = False,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    mode: options.Mode = "auto",
    loader: options.Loader = None,
    force: options.Force = False,
    strict: options.Strict = False,
    skip_missing: options.SkipMissing = False,
    as_json: options.Json = False,
) -> None:
    """Compare LoRAs, strengths and mixes on one labelled sheet. All pictures have the same seed."""
    from loraloom.cli.output import Output
    from loraloom.generate.request import GridRequest
    from loraloom.session import Session

    request = options.asked(
        GridRequest.of,
        prompts=prompts,
        loras=lora or (),
        strengths=_numbers(strengths),
        columns=[_column(text) for text in column or ()],
        negative_prompt=negative,
        seed=seed,
        steps=steps,
        guidance=guidance,
        width=width,
        height=height,
        sampler=sampler,
        base=base,
        mode=mode,
        loader=loader,
        force=force,
        strict=strict,
        skip_missing=skip_missing,
    )
    session = Session(lora_folders=lora_folder or (), follow_links=follow_links)
    place = Output.of(session.settings.output_folder if output is None else output, overwrite=overwrite)
    with progress_bar(f"opening {base or session.settings.base}") as on_step:
        sheet = session.grid(request, on_step)
    path = place.save(sheet.image, sheet.request.model_dump_json(), title="grid", key="loraloom")
    if as_json:
        terminal.out_json({"path": str(path.resolve()), "request": sheet.request.model_dump(mode="json"), "notes": sheet.notes})
    else:
        terminal.out(terminal.line(path))
        print_notes(sheet.notes)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SettingsError(f"--strengths takes numbers with commas between them, as in 0,0.5,1; not {text!r}") from error


def _column(text: str) -> dict[str, str]:
    """`label=tags`. The = of a key inside of a tag is not the one after a label."""
    before, equals, after = text.partition("=")
    return {"label": before.strip(), "tags": after.strip()} if equals and "<" not in before else {"label": text, "tags": text}
