"""Drawing with any text-to-image pipeline: noise, batches, progress. Knows nothing of LoRA."""

import inspect
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from loraloom.errors import NotSupported, SettingsError
from loraloom.generate.decoding import decode_as_held
from loraloom.generate.emphasis import count_chunks, texts
from loraloom.generate.pipeline import scheduler
from loraloom.generate.samplers import sampler_name
from loraloom.generate.stepping import Stepping, scheduler_of
from loraloom.generate.turns import TURNS
from loraloom.lazy import torch
from loraloom.undo import Undo, changing

if TYPE_CHECKING:
    from PIL.Image import Image

# Pixels drawn at once. Small pictures gain (a step of one 64 px picture is mostly overhead), large ones only cost memory.
_BATCH_PIXELS = 2 * 512 * 512
_BATCH = 16
_LOOK = 64  # latents a side that a look decodes at most


@dataclass(frozen=True)
class Progress:
    """After a step. Steps are counted for each picture: a batch of four counts four at once."""

    step: int
    steps: int  # of the whole job
    rate: float  # steps a second; 0 before it is known
    seconds_left: float  # infinite before it is known
    look: "Callable[[], Image] | None" = None  # the first picture of the batch as it is now; to be called before the next step


OnStep = Callable[[Progress], None]


class Clock:
    """Rate and time left of a job of `steps`. The first report is not part of the rate: it warms caches up."""

    def __init__(self, steps: int, on_step: OnStep | None) -> None:
        self._steps, self._on_step = steps, on_step
        self._done = 0
        self._warm: tuple[int, float] | None = None

    def advance(self, steps: int, look: "Callable[[], Image] | None" = None) -> None:
        """`steps` more are done."""
        self._done += steps
        now = time.perf_counter()
        done, since = self._warm = self._warm or (self._done, now)
        rate = (self._done - done) / max(now - since, 1e-9)
        if self._on_step:
            self._on_step(Progress(self._done, self._steps, rate, (self._steps - self._done) / rate if rate else math.inf, look))


@dataclass(frozen=True)
class Shot:
    """One picture to draw. Texts have no tags; emphasis marks are read where `emphasised` is around the drawing."""

    text: str
    seed: int
    negative: str = ""


@dataclass(frozen=True)
class Source:
    """What pictures begin with instead of noise."""

    image: "Image"  # RGB
    mask: "Image | None" = None  # L, of the same size: white is drawn anew
    denoise: float = 0.75  # the part of the steps that is run


@dataclass(frozen=True)
class Style:
    """How the pictures of one job are drawn; None: what the pipeline itself does."""

    steps: int
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    sampler: str | None = None
    source: Source | None = None

    @property
    def executed(self) -> int:
        """Steps that are run for each picture, as diffusers counts them."""
        return self.steps if self.source is None else int(self.steps * self.source.denoise)


def draw(pipeline: Any, shots: Sequence[Shot], style: Style, *, clock: Clock | None = None) -> "Generator[Image]":
    """One picture for each shot, in order, each batch as soon as it is finished.

    Each picture draws its noise from its own CPU generator, so it is the same alone and in a batch (up to the rounding of the
    matrix products, at most 1/255). Raises NotSupported for a pipeline that cannot draw pictures, SettingsError where no step is left.
    """
    if style.executed < 1 and style.source:
        raise SettingsError(f"denoise {style.source.denoise:g} of {style.steps} steps leaves none; take {1 / style.steps:g} or more")
    size = _batch_size(pipeline, style)
    clock = clock or Clock(style.executed * len(shots), None)
    with changing(lambda undo: _as_drawn(pipeline, style, undo)):
        stepping = Stepping(pipeline)
        for batch in _batches(pipeline, shots, size):
            yield from _draw_batch(pipeline, batch, style, stepping, clock)


def _batches(pipeline: Any, shots: Sequence[Shot], size: int) -> Iterator[Sequence[Shot]]:
    """At most `size` neighbours whose texts take as many chunks of tokens: padding a text would change its picture."""

    @cache
    def count(*texts: str) -> int:
        return count_chunks(pipeline, *texts)

    for _, neighbours in groupby(shots, lambda shot: count(shot.text, shot.negative)):
        alike = list(neighbours)
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


def _draw_batch(pipeline: Any, batch: Sequence[Shot], style: Style, stepping: Stepping, clock: Clock) -> "list[Image]":
    finished = 0

    def after(step: int, latents: Any) -> None:
        nonlocal finished
        clock.advance((step - finished) * len(batch), partial(_look, pipeline, latents) if _can_look(pipeline, latents) else None)
        finished = step

    options: dict[str, Any] = {
        "prompt": texts(pipeline, [shot.text for shot in batch]),
        "num_inference_steps": style.steps,
        "generator": [torch.Generator("cpu").manual_seed(shot.seed) for shot in batch],
    }
    if any(shot.negative for shot in batch):
        options["negative_prompt"] = texts(pipeline, [shot.negative for shot in batch])
    chosen: dict[str, Any] = {"guidance_scale": style.guidance}
    if style.source:
        chosen |= {"image": [style.source.image] * len(batch), "strength": style.source.denoise}
        if style.source.mask:
            chosen |= {"mask_image": [style.source.mask] * len(batch)}
            chosen |= dict(zip(("width", "height"), style.source.image.size, strict=True))
    else:
        chosen |= {"width": style.width, "height": style.height}
    options |= {name: value for name, value in chosen.items() if value is not None}
    unknown = options.keys() - inspect.signature(type(pipeline).__call__).parameters.keys()
    if unknown:
        raise NotSupported(f"{type(pipeline).__name__} takes no {', '.join(sorted(unknown))}; it is not a plain text-to-image pipeline")
    stepping.begin(style.executed, after)
    found = pipeline(**options)
    if not hasattr(found, "images"):
        raise NotSupported(f"{type(pipeline).__name__} does not draw pictures; it gives {type(found).__name__}")
    return list(found.images)


def _batch_size(pipeline: Any, style: Style) -> int:
    usual = usual_side(pipeline) or 1024
    return max(1, min(_BATCH, _BATCH_PIXELS // ((style.width or usual) * (style.height or usual))))


def usual_side(pipeline: Any) -> int | None:
    """Pixels of a side where a request says nothing; None where the pipeline does not tell."""
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    side = getattr(denoiser, "config", {}).get("sample_size")
    return side * getattr(pipeline, "vae_scale_factor", 8) if isinstance(side, int) else None


def _can_look(pipeline: Any, latents: Any) -> bool:
    return getattr(latents, "ndim", 0) == 4 and hasattr(pipeline, "vae") and hasattr(pipeline, "image_processor")


def _look(pipeline: Any, latents: Any) -> "Image":
    """The first of `latents` decoded, at most _LOOK latents a side: a look at a large picture costs no more than one at a small one."""
    vae, first = pipeline.vae, latents[:1]
    shrink = min(1.0, _LOOK / max(first.shape[-2:]))
    with TURNS.working(), torch.no_grad():
        if shrink < 1:
            first = torch.nn.functional.interpolate(first.float(), scale_factor=shrink, mode="area")
        scaled = first.to(vae.dtype) / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0)
        decoded = vae.decode(scaled, return_dict=False)[0]
    image: Image = pipeline.image_processor.postprocess(decoded.float(), output_type="pil")[0]
    return image


def own_sampler(pipeline: Any) -> str:
    """The name of the sampler that the pipeline came with."""
    return sampler_name(type(pipeline.scheduler).__name__, dict(pipeline.scheduler.config))


def _as_drawn(pipeline: Any, style: Style, undo: Undo) -> None:
    """The sampler of `style`, in any case a fresh one: schedulers keep state between runs, and pictures must not depend on it."""
    own = scheduler_of(pipeline)
    fresh = type(own).from_config(own.config) if style.sampler is None else scheduler(style.sampler, own, style.steps)
    undo.keep(pipeline, "scheduler")
    pipeline.scheduler = fresh
    decode_as_held(pipeline, undo)
