"""A run as it will be, before it begins: as a page, or as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from loraloom.cli.page import Page, joined, size

if TYPE_CHECKING:
    from loraloom.train.facts import Facts, Prompt

_SHOWN = 6  # buckets, of any number


def document(facts: "Facts") -> dict[str, Any]:
    """The run as JSON has it."""
    return asdict(facts) | {"epochs": facts.epochs, "ready": not facts.problems}


def show(facts: "Facts") -> None:
    """The page: what goes in, what is trained, what it needs, what comes out, what is odd."""
    page = Page(facts.files[0].path.name, f"{facts.trained.type} for {facts.base}")
    for name, text in (*_pictures(facts), *_course(facts)):
        page.line(name, text)
    for prompt in facts.prompts:
        page.line("first prompts", *_prompt(prompt))
    if any(prompt.cut is None for prompt in facts.prompts):
        page.line("first prompts", ("no tokenizer lies beside this base: captions are measured when it is loaded", "dim"))
    for name, text in _needs(facts):
        page.line(name, text)
    for file in facts.files:
        page.line("writes", f"{file.path.name}  ", (file.what, "dim"), ("  is there already" if file.there else "", "yellow"))
    page.line("in", str(facts.files[0].path.parent))
    for note in facts.notes:
        page.line("note", (note, "yellow"))
    for problem in facts.problems:
        page.line("stops it", (problem, "red"))
    if not facts.problems:
        page.line("ready", ("nothing stands in the way; the same command without --dry-run begins", "green"))
    page.print()


def _pictures(facts: "Facts") -> Iterator[tuple[str, str]]:
    also = f"{facts.regularization} for regularisation" if facts.regularization else ""
    masked = f"{facts.masks} with a mask" if facts.masks else ""
    yield "pictures", joined(str(facts.pictures), also, masked)
    if len(facts.folders) > 1 or any(times > 1 for _, _, times in facts.folders):
        yield "folders", joined(*(f"{name}: {count}" + (f" × {times}" if times > 1 else "") for name, count, times in facts.folders))
    shapes = sorted(facts.buckets, key=lambda bucket: -bucket.pictures)
    told = [f"{bucket.shape[0]}×{bucket.shape[1]}" + (f": {bucket.pictures}" if len(shapes) > 1 else "") for bucket in shapes]
    yield "shapes" if len(shapes) > 1 else "shape", joined(*told[:_SHOWN], f"{len(told) - _SHOWN} more" if len(told) > _SHOWN else "")


def _course(facts: "Facts") -> Iterator[tuple[str, str]]:
    yield (
        "steps",
        joined(
            f"{facts.steps} of {facts.per_step} picture{'s' if facts.per_step > 1 else ''}",
            f"an epoch takes {facts.per_epoch}",
            f"{facts.epochs:.3g} epochs",
        ),
    )
    trained = facts.trained
    numbers = f"{trained.numbers / 1e6:.2f} million numbers" if trained.numbers >= 1e5 else f"{trained.numbers} numbers"
    yield (
        "trains",
        joined(
            f"{trained.modules} modules of {' and '.join(trained.components)}", f"rank {trained.rank}", f"alpha {trained.alpha:g}", numbers
        ),
    )


def _prompt(prompt: "Prompt") -> list[str | tuple[str, str]]:
    text: str | tuple[str, str] = f"“{prompt.text}”" if prompt.text else ("no words, by chance or for want of a caption", "italic")
    cut = f"  the last {prompt.cut} tokens are not read" if prompt.cut else ""
    return [text, (f"  {prompt.picture}", "dim"), (cut, "yellow")]


def _needs(facts: "Facts") -> Iterator[tuple[str, str]]:
    memory = facts.memory
    if memory is None:
        yield "memory", "not known before the base is loaded"
    else:
        parts = {
            "base": memory.weights,
            "adapters, gradients, optimiser": memory.adapters + memory.gradients + memory.optimizer,
            "one pass": memory.activations,
            "latents": memory.latents,
            "the program": memory.program,
        }
        told = joined(*(f"{name} {size(count)}" for name, count in parts.items()))
        yield "memory", f"about {size(memory.total)}, an estimate: {told}; {size(facts.free)} are free"
    disk = facts.disk
    cache = f", {size(disk.cache)} of them for the cache" if disk.cache else ""
    yield "disk", f"about {size(disk.needed)}{cache}; {size(disk.free)} are free"
