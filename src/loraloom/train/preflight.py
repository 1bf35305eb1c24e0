"""Before a run, and before any model is loaded: everything is read, reckoned and checked that can be."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loraloom.bases import Base
from loraloom.errors import LoraError, SettingsError
from loraloom.home import expanded
from loraloom.lazy import torch
from loraloom.train import base_dtype, checkpoint, estimate, lock, warmstart
from loraloom.train.chance import generator
from loraloom.train.config import ResolvedConfig, TrainConfig, resolve
from loraloom.train.dataset import Dataset, read_dataset
from loraloom.train.estimate import Memory
from loraloom.train.facts import Bucket, Disk, Facts, Prompt, Trained, Written
from loraloom.train.heldout import held_apart
from loraloom.train.identity import Paths
from loraloom.train.networks import BEST, Networks, at, check_dialects
from loraloom.train.odd import odd_captions, odd_pictures
from loraloom.train.optimizers.state import check_that_it_survives
from loraloom.train.plans import odd_plan
from loraloom.train.targets import Planned, plan
from loraloom.train.wording import Wording

_PROMPTS, _STEPS = 3, 50  # shown, and steps in which they are looked for
_LATENT = 2 * 4 * 4  # bytes of one place: mean and log-variance, four channels of float32


@dataclass(frozen=True)
class Known:
    """What can be known of a base without loading it."""

    tokens_cut: Callable[[str], int] | None = None
    weights: int | None = None  # numbers in all its components
    width: int = 4  # bytes of one number
    pixels_per_latent: int = 8


@dataclass(frozen=True)
class Preflight:
    """A job that is ready, or the reasons why it is not."""

    job: ResolvedConfig
    base: Base
    planned: tuple[Planned, ...]
    paths: Paths
    dataset: Dataset
    held: Dataset | None  # pictures that are not trained on
    problems: tuple[LoraError, ...]
    facts: Facts
    counted: bool  # whether captions were measured against the token limit

    def require_ready(self) -> None:
        """Raises the first of the problems."""
        if self.problems:
            raise self.problems[0]


def preflight(
    config: TrainConfig, base: Base, known: Known | None = None, *, done: Callable[[int, int], None] = lambda *_: None
) -> Preflight:
    """Reads every picture and caption; `done` hears how many of how many. Nothing is written.

    Raises SettingsError or DatasetError where the job means nothing or pictures cannot be used; whatever else would stop the run is
    in the result's `problems`.
    """
    known = known or Known()
    job = resolve(config, base)
    planned, paths = plan(job, base), Paths(expanded(job.output).resolve())
    paths.require_short()
    problems = tuple(_problems(job, base, paths, known.pixels_per_latent))
    dataset, held = held_apart(job, read_dataset(job, done=done))
    notes = (*dataset.notes, *odd_pictures(dataset, job), *odd_plan(job, dataset, base))
    if known.tokens_cut is not None:
        notes += tuple(odd_captions(dataset, known.tokens_cut))
    trained = _trained(job, planned)
    reckoned, free = _memory(job, base, dataset, known, trained), estimate.free(_device())
    if reckoned is not None and reckoned.total > free:
        less = ", ".join(estimate.savings(job))
        notes += (
            f"the run takes about {_size(reckoned.total)} of memory, by estimate, and {_size(free)} are free; less is taken with {less}",
        )
    disk = _disk(job, paths, dataset, known, trained)
    if disk.needed > disk.free:
        notes += (f"the disk of {paths.output.parent} has {_size(disk.free)} free, the run may need {_size(disk.needed)}",)
    facts = Facts(
        base=base.title,
        pictures=len(dataset.own),
        regularization=len(dataset.regular),
        masks=sum(picture.mask is not None for picture in dataset.pictures),
        folders=_folders(dataset),
        resolution=job.resolution,
        buckets=_buckets(dataset),
        steps=job.steps,
        per_step=job.per_step,
        per_epoch=dataset.order(job.seed).epoch_length,
        prompts=_prompts(job, dataset, known.tokens_cut),
        trained=trained,
        memory=reckoned,
        free=free,
        files=tuple(_files(job, Networks(job, base, paths))),
        disk=disk,
        notes=notes,
        problems=tuple(map(str, problems)),
    )
    return Preflight(job, base, planned, paths, dataset, held, problems, facts, known.tokens_cut is not None)


def _problems(job: ResolvedConfig, base: Base, paths: Paths, pixels_per_latent: int) -> Iterator[LoraError]:
    """Everything that would make the run fail later, before its start."""
    for check in (
        partial(check_dialects, job.dialects),
        partial(check_that_it_survives, job, _device()),
        partial(base_dtype.require, job.base_dtype),
        partial(warmstart.opened, job, base),
        partial(lock.require_free, paths.lock),
    ):
        try:
            check()
        except LoraError as error:
            yield error
    yield from sides(job, pixels_per_latent)
    for path, is_folder in ((paths.output, False), (paths.state, True)):
        if path.exists() and path.is_dir() != is_folder:
            yield SettingsError(f"{path} is a {'file' if is_folder else 'folder'}, which the run does not replace; choose another --output")
    if not job.resume:  # which knows its own files, but only when it has read everything
        yield from Networks(job, base, paths).taken()
    yield from state_unasked(job, paths)


def state_unasked(job: ResolvedConfig, paths: Paths) -> Iterator[SettingsError]:
    """An interrupted run that the job says nothing of: it is neither gone on with nor dropped."""
    if checkpoint.exists(paths.state) and not (job.resume or job.overwrite):
        yield SettingsError(
            f"{paths.state} holds an interrupted run: go on with it with --resume, or start anew with --overwrite, which drops it"
        )


def _device() -> "torch.device":
    """Where the run will most likely take place; known for sure when the base is loaded."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def sides(job: ResolvedConfig, pixels_per_latent: int) -> Iterator[SettingsError]:
    """Sizes of pictures that do not make whole latents."""
    for name, value in (("bucket_step", job.bucket_step),) if job.buckets else (("resolution", job.resolution),):
        if value % pixels_per_latent:
            yield SettingsError(f"{name} {value} is not a multiple of {pixels_per_latent}, the pixels of one latent")


def _trained(job: ResolvedConfig, planned: Sequence[Planned]) -> Trained:
    """Counted on adapters that are made for empty weights; layers alike are counted once."""
    from loraloom.train.trainable import made  # a torch module: loads torch

    counts: dict[str, int] = {}
    numbers = 0
    for item in planned:
        key = repr((item.kind, item.layer.shape, item.rank, item.options))
        if key not in counts:
            new = made(item, torch.ones(item.layer.shape), generator("size"))
            counts[key] = sum(tensor.numel() for tensor in new.trainable().values())
        numbers += counts[key]
    return Trained(job.type, job.rank, job.alpha, job.components, len(planned), numbers)


def _memory(job: ResolvedConfig, base: Base, dataset: Dataset, known: Known, trained: Trained) -> Memory | None:
    if known.weights is None:
        return None
    largest = max(dataset.shapes, key=lambda shape: shape[0] * shape[1])
    latents = (largest[0] // known.pixels_per_latent, largest[1] // known.pixels_per_latent)
    return estimate.of(
        job,
        base,
        weights=known.weights,
        width=known.width,
        trained=trained.numbers,
        largest=latents,
        latents=_latents(job, dataset, known),
    )


def _latents(job: ResolvedConfig, dataset: Dataset, known: Known) -> int:
    """Bytes of all latents that are kept."""
    if job.crop == "random":
        return 0
    area = sum(shape[0] * shape[1] * count for shape, count in dataset.shapes.items())
    return area // known.pixels_per_latent**2 * _LATENT * (2 if job.flip else 1)


def _disk(job: ResolvedConfig, paths: Paths, dataset: Dataset, known: Known, trained: Trained) -> Disk:
    """A new state is complete before the old one goes, so there is room for two."""
    file = trained.numbers * (4 if job.dtype == "float32" else 2)
    state = 0 if job.no_resume else round(trained.numbers * 4 * (1 + estimate.kept_for_each(job)))
    saves = job.steps // job.save_every
    files = len(job.dialects) * (1 + int(job.keep_best) + (saves if job.keep < 0 else min(job.keep + 1, saves) if job.keep else 0))
    cache = _latents(job, dataset, known) if job.cache else 0
    there = next(folder for folder in paths.output.parents if folder.exists())
    return Disk(needed=file * files + 2 * state + cache, free=shutil.disk_usage(there).free, cache=cache)


def _files(job: ResolvedConfig, networks: Networks) -> Iterator[Written]:
    def written(path: Path, what: str) -> Written:
        return Written(path, what, path.exists())

    paths = networks.paths
    for path, dialect in zip(networks.of(), job.dialects, strict=True):
        yield written(path, f"the LoRA, {dialect} naming")
    if job.keep_best:
        yield written(networks.of(BEST)[0], "the LoRA of the best step")
    if not job.no_resume:
        yield written(paths.state, "the training state" if job.keep_state else "the training state, removed at the end")
    yield written(paths.log, "a line for each step")
    yield written(paths.plot, "the loss as a picture")
    if job.sample_prompts:
        yield written(paths.samples, f"sample pictures, every {job.sample_every} steps")
    if job.keep:
        many = "all of them" if job.keep < 0 else f"the last {job.keep}"
        yield written(networks.of(at(job.save_every))[0], f"and so on: the LoRA every {job.save_every} steps, {many}")
    if job.cache:
        yield written(expanded(job.cache).resolve(), "encoded pictures and captions, kept for the next run")


def _folders(dataset: Dataset) -> tuple[tuple[str, int, int], ...]:
    held = dict.fromkeys(picture.folder for picture in dataset.pictures)
    return tuple((folder.path.name, sum(picture.folder == folder for picture in dataset.pictures), folder.repeats) for folder in held)


def _buckets(dataset: Dataset) -> tuple[Bucket, ...]:
    return tuple(
        Bucket(shape, count, sum(picture.folder.repeats for picture in dataset.own if picture.shape == shape))
        for shape, count in dataset.shapes.items()
    )


def _prompts(job: ResolvedConfig, dataset: Dataset, tokens_cut: Callable[[str], int] | None) -> tuple[Prompt, ...]:
    """The first of the run, of different pictures; then the first of a regularisation picture."""
    order, wording = dataset.order(job.seed), Wording.of(job)
    seen: set[int] = set()
    left = {False: _PROMPTS, True: 1}
    found: list[tuple[bool, Prompt]] = []
    for step in range(1, min(job.steps, _STEPS) + 1):
        for sample in order.samples(step, job.batch, job.accumulate):
            picture = dataset.pictures[sample.picture]
            if sample.picture not in seen and left[picture.folder.regular]:
                seen.add(sample.picture)
                left[picture.folder.regular] -= 1
                text = wording.at_step(picture.caption_of(sample), sample)
                found.append((picture.folder.regular, Prompt(picture.name, text, tokens_cut(text) if tokens_cut else None)))
    return tuple(prompt for _, prompt in sorted(found, key=lambda item: item[0]))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
