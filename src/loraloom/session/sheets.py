"""Grids: every prompt with every column, drawn with one seed and put on one sheet."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.generate.draw import OnStep, Shot
from loraloom.generate.grid import sheet
from loraloom.generate.jobs import Job, Picture, draw_jobs
from loraloom.generate.opened import Opened
from loraloom.generate.request import GridRequest, random_seed
from loraloom.lorafile import Mix
from loraloom.prompts import Prompt
from loraloom.schedule import number
from loraloom.session.kept import Kept
from loraloom.session.library import Named
from loraloom.session.wording import parsed

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Sheet:
    """A grid as one picture. `request` has the seed that was used: it draws the same grid again."""

    image: "Image"
    request: GridRequest
    pictures: tuple[tuple[Picture, ...], ...]  # [row][column]
    notes: tuple[str, ...]


def grid(kept: Kept, request: GridRequest, on_step: OnStep | None) -> Sheet:
    """The pictures row by row, and the sheet with a row for each prompt."""
    request = request.model_copy(update={"seed": random_seed() if request.seed is None else request.seed})
    opened, jobs = _jobs(kept, request)
    drawn = draw_jobs(opened, jobs, request, on_step)
    columns = request.all_columns
    rows = tuple(tuple(drawn[start : start + len(columns)]) for start in range(0, len(drawn), len(columns)))
    image = sheet(
        [prompt.strip() or "(no prompt)" for prompt in request.prompts],
        [column.label for column in columns],
        [[picture.image for picture in row] for row in rows],
        caption=_caption(drawn[0]),
    )
    return Sheet(image, request, rows, tuple(dict.fromkeys(note for picture in drawn for note in picture.notes)))


def _jobs(kept: Kept, request: GridRequest) -> tuple[Opened, list[Job]]:
    """The base, and a job for each cell, row by row. Names are found before the base is opened: mistakes show at once."""
    library, networks, seed = kept.library, kept.networks, request.seed
    assert seed is not None
    mistakes: list[str] = []
    told = mistakes if request.lenient else None
    missing = mistakes if request.lenient or request.skip_missing else None
    prompts, negative = [parsed(prompt, told) for prompt in request.prompts], parsed(request.negative_prompt, told)
    columns = [(column, parsed(column.tags, told)) for column in request.all_columns]
    catalogue = library.now([*prompts, negative, *(tags for _, tags in columns)])

    def find(*texts: Prompt) -> Named:
        return library.find(texts, catalogue, missing, ambiguous=request.lenient)

    cells = [(prompt, column, find(prompt, tags)) for prompt in prompts for column, tags in columns]
    named_negative = find(negative)
    negative = library.finish(negative, catalogue, triggers=0).prompt
    opened = kept.bases.open(request.base)
    below = networks.stack(named_negative, opened, request)
    jobs = []
    for prompt, column, named in cells:
        cell = library.finish(parsed(" ".join(filter(None, (prompt.source, column.tags))), told and []), catalogue)
        shot = Shot(cell.prompt.text, seed, negative.text)
        mix = Mix(networks.stack(named, opened, request), below)
        jobs.append(Job(shot, mix, cell.prompt.source, negative.source, (*mistakes, *cell.notes)))
    return opened, jobs


def _caption(picture: Picture) -> str:
    recipe = picture.recipe
    guidance = "" if recipe.guidance is None else f" · guidance {number(recipe.guidance)}"
    return f"{recipe.model} · {recipe.sampler} · {recipe.steps} steps{guidance} · seed {recipe.seed}"
