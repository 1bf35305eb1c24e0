"""`loraloom inspect`: what a file is, from its header."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraloom.cli import options, terminal

if TYPE_CHECKING:
    from loraloom.catalogue.inspecting import Inspection, Training
    from loraloom.cli.page import Page
    from loraloom.session import Session

_FEW = 12  # trigger words


def inspect(
    files: Annotated[list[str], typer.Argument(help="Files, or names in your library.", show_default=False)],
    keys: Annotated[
        bool, typer.Option("--keys", help="List every tensor: shape, dtype, and what it belongs to or why to nothing.")
    ] = False,
    hash: Annotated[bool, typer.Option("--hash", help="Work out the hashes that sites know the file by; reads all of it.")] = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="Write FILE.report.json here, to attach to a bug report: names and shapes, no weights, no places."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that is there.")] = False,
    lora_folder: options.LoraFolder = None,
    follow_links: options.FollowLinks = False,
    as_json: options.Json = False,
) -> None:
    """Say what a file is: base, type, rank, what it changes, trigger words, how it was trained, and what is wrong with it."""
    from loraloom.errors import LoraError
    from loraloom.session import Session

    session = Session(lora_folders=lora_folder or (), follow_links=follow_links)
    documents: list[dict[str, Any]] = []
    first: LoraError | None = None
    for place, name in enumerate(files):
        try:
            found = session.inspect(name, hash=hash, keys=keys)
            written = _write_report(session, name, overwrite=overwrite) if report else None
        except LoraError as error:
            # One bad file of many does not hide the others; a single one is an error as everywhere.
            if len(files) == 1:
                raise
            first = first or error
            documents.append({"name": name, "error": str(error)})
            if not as_json:
                terminal.err(f"loraloom: {error}")
            continue
        documents.append(_document(found, keys=keys))
        if not as_json:
            if place:
                terminal.out()
            _print(found, keys=keys)
            if written:
                terminal.out(terminal.line(written))
    if as_json:
        terminal.out_json(documents)
    if first:
        from loraloom.cli import exit_code

        raise typer.Exit(exit_code(first))


def _write_report(session: "Session", name: str, *, overwrite: bool) -> Path:
    from loraloom.catalogue.inspecting import listing
    from loraloom.dialects import folder
    from loraloom.errors import WriteFailed

    header = folder.opened(session.locate(name))[0].header  # one file: of a folder with several the file inside is named
    path = Path(f"{header.path.stem}.report.json")
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as file:
            file.write(listing(header))
    except FileExistsError as error:
        raise WriteFailed(f"{path} is there already and was not touched; move it away, or --overwrite") from error
    except OSError as error:
        raise WriteFailed(f"{path}: could not be written: {error.strerror or error}") from error
    return path


def _document(found: "Inspection", *, keys: bool) -> dict[str, Any]:
    """The fields of `Inspection`, named tuples as objects; `keys` only if they were asked for."""
    document = asdict(found)
    document["ranks"], document["alphas"] = (spread and spread._asdict() for spread in (found.ranks, found.alphas))
    document["unused"] = [unused._asdict() for unused in found.unused]
    document["components"] = [
        {"name": part.name, "modules": part.modules}
        | {kind: share and share._asdict() for kind, share in (("attention", part.attention), ("rest", part.rest))}
        for part in found.components
    ]
    del document["keys"]
    return document | ({"keys": [key._asdict() for key in found.keys]} if keys else {})


def _print(found: "Inspection", *, keys: bool) -> None:
    from loraloom.cli.page import STYLES, Page, joined, number, size

    told = found.training
    page = Page(found.name, joined(size(found.size), "+".join(found.dtypes), f"{found.tensors:,} tensors"))
    page.line("title", joined(told.title, told.author and f"by {told.author}", told.license, told.finished[:10]))
    page.line("", told.description)
    page.line("base", (found.base, "bold"), "  ", (found.confidence, STYLES[found.confidence]))
    page.line("base", ("; ".join(found.evidence) or "nothing in it says what it was made for", "dim"))
    for sentence in found.contradictions:
        page.line("base", (sentence, "yellow"))
    kinds = ", ".join(f"{kind} on {count}" for kind, count in found.types.items())
    page.line("type", f"{kinds} modules" if kinds else "none that is known here")
    page.line("type", joined(number(found.ranks, "rank"), number(found.alphas, "alpha"), _scale(found), found.alpha_from))
    page.line("type", f"magnitudes of {' and '.join(f'{axis} ({count})' for axis, count in found.dora.items())}" if found.dora else "")
    page.line("dialect", found.dialect or "not known")
    _print_components(page, found)
    page.line("triggers", ", ".join(found.triggers[:_FEW]), f" and {len(found.triggers) - _FEW} more" if len(found.triggers) > _FEW else "")
    page.line("words", ", ".join(found.words))
    _print_training(page, told)
    _print_hashes(page, found)
    _print_doubts(page, found)
    page.print()
    if keys:
        _print_keys(found)


def _scale(found: "Inspection") -> str:
    """What both together mean; a learning rate means nothing without it."""
    root = "rsLoRA: alpha/√rank" if found.rslora else ""
    if not (found.ranks and found.alphas) or found.ranks.least != found.ranks.most or found.alphas.least != found.alphas.most:
        return root
    return root or f"scale {found.alphas.most / found.ranks.most:.4g}"


def _print_components(page: "Page", found: "Inspection") -> None:
    from loraloom.cli.page import share

    for part in found.components:
        if part.attention is None or part.rest is None:
            page.line("changes", f"{part.name}: {part.modules} modules")
        elif part.modules:
            page.line("changes", f"{part.name}: {share(part.attention, 'attention layers')}, {share(part.rest, 'others')}")
        else:
            page.line("changes", (f"{part.name}: nothing", "dim"))


def _print_training(page: "Page", told: "Training") -> None:
    from loraloom.cli.page import joined

    pictures = joined(told.pictures and f"{told.pictures} pictures", told.resolution, told.batch and f"batch {told.batch}")
    page.line(
        "training",
        joined(told.trainer, told.base_model and f"on {told.base_model}", told.merged_from and f"merged from {told.merged_from}"),
    )
    page.line("training", joined(told.steps and f"{told.steps} steps", told.epochs and f"{told.epochs} epochs", pictures))
    rates = [f"{name} {value}" for name, value in (("unet", told.unet_lr), ("text", told.text_encoder_lr)) if value]
    rate = told.learning_rate and f"learning rate {told.learning_rate}" + (f" ({', '.join(rates)})" if rates else "")
    sizes = told.rank and f"rank {told.rank}, alpha {told.alpha or '?'}"
    page.line("training", joined(rate, sizes))
    page.line("training", joined(told.optimizer, told.scheduler))


def _print_hashes(page: "Page", found: "Inspection") -> None:
    if hashes := found.hashes:
        verdict = {True: ("as in the metadata", "green"), False: ("not as in the metadata", "red"), None: ("", "")}[hashes.agrees]
        page.line("hashes", f"sha256  {hashes.sha256}")
        page.line("hashes", f"model   {hashes.model}  ", verdict)
        page.line("hashes", f"AutoV3  {hashes.autov3}   first WebUI  {hashes.legacy}")


def _print_doubts(page: "Page", found: "Inspection") -> None:
    from loraloom.cli.page import reasons

    page.line("problem", (found.problem, "red"))
    for sentence in found.warnings:
        page.line("beware", (sentence, "yellow"))
    if found.unused:
        page.line("unused", f"{len(found.unused)} of {found.tensors} tensors")
        lines, more = reasons(found.unused)
        for line in (*lines, *([f"and {more} reasons more; --keys has all"] if more else ())):
            page.line("unused", (line, "dim"))


def _print_keys(found: "Inspection") -> None:
    for key in found.keys:
        where = f"{key.type} {key.target}" if key.type else f"unused: {key.reason}"
        terminal.out(terminal.line(f"{key.name}  {key.dtype} {list(key.shape)}  {where}"))
