"""From jobs to pictures: one attach for all jobs of the same mix, and the recipe of each picture."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from loraloom.engine import Report
from loraloom.engine.live import components, refuse_lost
from loraloom.errors import MatchError, NotFinite
from loraloom.generate.culprit import blamed
from loraloom.generate.draw import Clock, OnStep, Shot, Source, Style, draw, own_sampler
from loraloom.generate.emphasis import emphasised, encoders, weighs
from loraloom.generate.infotext import Recipe
from loraloom.generate.opened import Opened
from loraloom.generate.request import Drawing
from loraloom.lorafile import LoraFile, Mix
from loraloom.prompts import unmarked, weighted
from loraloom.schedule import number
from loraloom.tensorfile import Header
from loraloom.undo import Undo, changing

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Job:
    """One picture: what is drawn, with which networks, and both prompts as they were written."""

    shot: Shot
    mix: Mix
    prompt: str
    negative_prompt: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture and all that is known about it. `str(recipe)` is what its PNG carries."""

    image: "Image"
    recipe: Recipe
    seed: int
    report: Report | None  # what the engine did; None without LoRAs
    notes: tuple[str, ...]  # for the person who asked: what was left out, and why


OnPicture = Callable[[int, Picture], None]  # the place of its job, and the picture


def draw_jobs(
    opened: Opened,
    jobs: Sequence[Job],
    request: Drawing,
    on_step: OnStep | None = None,
    on_picture: OnPicture | None = None,
    *,
    source: Source | None = None,
) -> list[Picture]:
    """One picture for each job, in order; `on_picture` gets each as soon as it is finished, so that a long run loses nothing.
    All begin with `source` if there is one; `opened` is then the base that does so.

    Jobs of the same mix are drawn together. Raises what the engine raises, and MatchError where a part of a network does not
    fit and the request is strict.
    """
    style = opened.style(request, source)
    clock = Clock(style.executed * len(jobs), on_step)
    by_mix: dict[Mix, list[int]] = {}
    for index, job in enumerate(jobs):
        by_mix.setdefault(job.mix, []).append(index)
    pictures: dict[int, Picture] = {}
    for mix, places in by_mix.items():
        drawing = draw(opened.pipeline, [jobs[place].shot for place in places], style, clock=clock)
        try:
            with attached(opened, mix, style, request) as report, closing(drawing) as images:
                for place, image in zip(places, images, strict=True):
                    job = jobs[place]
                    recipe = _recipe(opened, job, style, image)
                    said = (*notes(opened, job, report, style), *_one_colour(image, mix))
                    pictures[place] = Picture(image, recipe, job.shot.seed, report, said)
                    if on_picture:
                        on_picture(place, pictures[place])
        except NotFinite as error:
            raise blamed(error, opened, mix, request.loader) from error
    return [pictures[index] for index in range(len(jobs))]


def attached(opened: Opened, mix: Mix, style: Style, request: Drawing) -> AbstractContextManager[Report | None]:
    """The mix on the base, as the request asks for it; None where there is nothing to attach. Raises as `draw_jobs` does."""
    return changing(lambda undo: _attach(undo, opened, mix, style, request))


def _attach(undo: Undo, opened: Opened, mix: Mix, style: Style, request: Drawing) -> Report | None:
    undo.enter(emphasised(opened.pipeline))
    if not mix.positive and not mix.negative:
        refuse_lost(components(opened.pipeline).values())
        return None
    report = undo.enter(opened.runner(request.loader).attached(mix, steps=style.executed, mode=request.mode))
    if request.strict and (unused := _left_out(report)):
        raise MatchError("refused, because parts of a LoRA do not fit this base (strict):\n  " + "\n  ".join(unused))
    return report


def notes(opened: Opened, job: Job, report: Report | None, style: Style) -> Iterator[str]:
    """What the person who asked should know: about the prompt, and about its networks."""
    yield from job.notes
    yield from _text_notes(opened.pipeline, (job.shot.text, job.shot.negative))
    yield from _network_notes(report, job.mix, style)


def _one_colour(image: "Image", mix: Mix) -> Iterator[str]:
    """Numbers that are finite and far too large end as one colour."""
    names = ", ".join(file.name for file, _ in (*mix.positive, *mix.negative))
    extremes = cast("tuple[tuple[int, int], ...]", image.convert("RGB").getextrema())
    if names and all(low == high for low, high in extremes):
        yield f"the picture is one colour everywhere, which too much strength does: lower that of {names}"


def _left_out(report: Report | None) -> list[str]:
    """A line for each network of which something is not used, with the first reason."""
    networks = report.networks if report else ()
    return [
        f"{network.name}: {len(network.unused)} keys are not used, such as {network.unused[0]}" for network in networks if network.unused
    ]


def _network_notes(report: Report | None, mix: Mix, style: Style) -> Iterator[str]:
    yield from _left_out(report)
    if report and report.mode == "diffusers":
        yield f"LoRAs ran through diffusers: {report.reason}"
    if mix.negative and style.guidance is not None and style.guidance <= 1:
        yield f"guidance {style.guidance:g} draws without a negative half, so tags in the negative prompt do nothing"
    for network in report.networks if report else ():
        yield from (f"{network.name}: {warning}" for warning in network.warnings)
    for file, strength in (*mix.positive, *mix.negative):
        late = ", ".join(str(position) for position in strength.unreachable(style.executed))
        if late:
            yield f"{file.name}: position {late} is after the last of {style.executed} steps"


def _text_notes(pipeline: Any, texts: Sequence[str]) -> Iterator[str]:
    """What a pipeline that weighs no words does with these texts."""
    if weighs(pipeline):
        return
    if any(weight != 1 for text in texts for _, weight in weighted(text)):
        kinds = " and ".join(dict.fromkeys(type(part).__name__ for part in encoders(pipeline).values())) or "no known text encoder"
        yield (
            f"emphasis like (word:1.2) is run by Stable Diffusion pipelines with CLIP alone; this {type(pipeline).__name__} has {kinds}, "
            "so the words are drawn with weight 1"
        )
    for text in texts:
        yield from _cut_text(pipeline, unmarked(text))


def _cut_text(pipeline: Any, text: str) -> Iterable[str]:
    """An encoder reads a fixed number of tokens and drops the rest without a word; of several, one that reads all is enough."""
    names = [name.replace("text_encoder", "tokenizer") for name in encoders(pipeline)]
    tokenizers = [found for name in names if (found := getattr(pipeline, name, None)) is not None]
    counts = [(len(tokenizer(text, truncation=False, verbose=False).input_ids), tokenizer.model_max_length) for tokenizer in tokenizers]
    if not counts or any(count <= room for count, room in counts):
        return ()
    count, room = max(counts, key=lambda found: found[1])
    return (f"the text encoder reads {room} tokens, the prompt has {count}: its end is not used",)


def _recipe(opened: Opened, job: Job, style: Style, image: "Image") -> Recipe:
    files = [file for file, _ in (*job.mix.positive, *job.mix.negative)]
    return Recipe(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        steps=style.steps,
        sampler=style.sampler or own_sampler(opened.pipeline),
        guidance=style.guidance,
        seed=job.shot.seed,
        width=image.width,
        height=image.height,
        model=opened.model,
        lora_hashes={file.called or file.name: _short_hash(file) for file in files},
        extra={**_begun(style.source), "Version": f"loraloom {version('loraloom')}"},
    )


def _begun(source: Source | None) -> Mapping[str, str]:
    return {"Denoising strength": number(source.denoise)} if source else {}


def _short_hash(file: LoraFile) -> str:
    """The first 12 digits of what the file's tensors hash to: Civitai's AutoV3."""
    known = file.metadata.get("sshs_model_hash", "").removeprefix("0x")
    return (known or _content_hash(file.path))[:12] if file.path else known[:12]


@lru_cache(maxsize=256)
def _content_hash(path: Path) -> str:
    return Header.read(path).content_hash()
