"""From a request to pictures: prompts, their networks, the base, and a job for each picture."""

from dataclasses import dataclass

from loraloom.engine import Report
from loraloom.generate.draw import OnStep, Shot, Source, Style
from loraloom.generate.jobs import Job, OnPicture, Picture, attached, draw_jobs, notes
from loraloom.generate.opened import Opened
from loraloom.generate.request import ImageRequest, random_seed
from loraloom.generate.source import source
from loraloom.lorafile import Mix
from loraloom.prompts import Prompt
from loraloom.session.kept import Kept
from loraloom.session.library import Library, Named
from loraloom.session.wording import parsed


@dataclass(frozen=True)
class Explained:
    """What a request would do. `report` is None without LoRAs."""

    model: str
    style: Style
    report: Report | None
    notes: tuple[str, ...]


def generate(kept: Kept, request: ImageRequest, on_step: OnStep | None, on_picture: OnPicture | None) -> list[Picture]:
    """The request's pictures, in order."""
    begin = source(request)
    opened, jobs = _jobs(kept, request, begin)
    return draw_jobs(opened, jobs, request, on_step, on_picture, source=begin)


def explain(kept: Kept, request: ImageRequest) -> Explained:
    """The first picture's mix attached and taken off again, and what was said of it."""
    begin = source(request)
    opened, jobs = _jobs(kept, request, begin)
    style = opened.style(request, begin)
    with attached(opened, jobs[0].mix, style, request) as report:
        return Explained(opened.model, style, report, tuple(dict.fromkeys(notes(opened, jobs[0], report, style))))


def check(library: Library, request: ImageRequest) -> None:
    """Raise what a request gets wrong before a base is opened for it."""
    source(request)
    _named(library, request)


def _named(library: Library, request: ImageRequest) -> tuple[Prompt, Prompt, Named, Named, tuple[str, ...]]:
    """Both prompts, the networks of each, and what a lenient request let pass."""
    mistakes: list[str] = []
    told = mistakes if request.lenient else None
    prompt, negative = parsed(request.prompt, told), parsed(request.negative_prompt, told)
    catalogue = library.now([prompt, negative])
    missing = mistakes if request.lenient or request.skip_missing else None
    named, named_negative = (library.find([each], catalogue, missing, ambiguous=request.lenient) for each in (prompt, negative))
    finished, finished_negative = library.finish(prompt, catalogue), library.finish(negative, catalogue, triggers=0)
    return finished.prompt, finished_negative.prompt, named, named_negative, (*mistakes, *finished.notes)


def _jobs(kept: Kept, request: ImageRequest, begin: Source | None) -> tuple[Opened, list[Job]]:
    """The base, and a job for each picture of the request; all have the same mix."""
    prompt, negative, named, named_negative, mistakes = _named(kept.library, request)  # before the base is opened: mistakes show at once
    opened = kept.bases.open(request.base).beginning_with(begin)
    seed = random_seed() if request.seed is None else request.seed
    mix = Mix(kept.networks.stack(named, opened, request), kept.networks.stack(named_negative, opened, request))
    shots = [Shot(prompt.text, seed + i, negative.text) for i in range(request.pictures)]
    jobs = [Job(shot, mix, prompt.source, negative.source, mistakes) for shot in shots]
    return opened, jobs
