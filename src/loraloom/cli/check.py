"""`loraloom check`: whether a file fits a base, and what of it does not."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraloom.cli import options, terminal

if TYPE_CHECKING:
    from loraloom.catalogue.inspecting import Fit

EXIT_CODES = {"whole": 0, "partly": 8, "not": 9}
_SAID = {"whole": "fits whole", "partly": "fits partly", "not": "does not fit"}


def check(
    file: Annotated[str, typer.Argument(help="A file, or a name in your library.", show_default=False)],
    base: Annotated[
        str | None,
        typer.Option(
            help="A family (sdxl), a folder in diffusers' layout, or a checkpoint. (default: the family that the file is for)",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="What fits partly does not fit.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Look at every value too: NaN, all zero, too large for fp16.")] = False,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    as_json: options.Json = False,
) -> None:
    """Say how much of a file fits a base, block by block, and why the rest does not.

    Exit codes: 0 it fits whole, 8 partly, 9 not; other codes are errors, as everywhere.
    """
    from loraloom.session import Session

    fit = Session(lora_folders=lora_folder or (), follow_links=follow_links).fit(file, base, strict=strict, deep=deep)
    if as_json:
        terminal.out_json(_document(fit))
    else:
        _print(fit)
    if code := EXIT_CODES[fit.verdict]:
        raise typer.Exit(code)


def _document(fit: "Fit") -> dict[str, Any]:
    document = asdict(fit)
    document["unused"] = [unused._asdict() for unused in fit.unused]
    for part, covered in zip(document["components"], fit.components, strict=True):
        part["blocks"] = [
            {"name": block.name, "attention": block.attention._asdict(), "rest": block.rest._asdict()} for block in covered.blocks
        ]
    return document


def _print(fit: "Fit") -> None:
    from loraloom.cli.page import STYLES, Page, reasons

    page = Page(fit.name, f"against {fit.base}")
    page.line("verdict", (_SAID[fit.verdict], f"bold {STYLES[fit.verdict]}"), f": {fit.reason}" if fit.reason else "")
    page.line("used", f"{fit.used} of {fit.tensors} tensors on {fit.modules} modules")
    page.line("made for", fit.made_for.removeprefix("made for "))
    page.line("dialect", fit.dialect)
    for sentence in fit.warnings:
        page.line("beware", (sentence, "yellow"))
    for part in fit.components:
        if not part.modules:
            page.line(part.component, ("nothing", "dim"))
        for block in part.blocks:
            style = "" if block.attention.modules or block.rest.modules else "dim"
            shares = (
                f"{name} {each.modules}/{each.of}" for name, each in (("attention", block.attention), ("others", block.rest)) if each.of
            )
            page.line(part.component, (f"{block.name:<6}{', '.join(shares)}", style))
    lines, more = reasons(fit.unused)
    for line in (*lines, *([f"and {more} reasons more; --json has all"] if more else ())):
        page.line("unused", (line, "dim"))
    page.print()
