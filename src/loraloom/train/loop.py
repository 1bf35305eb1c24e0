"""A training run from pictures to file: prepare, step, save, publish.

The base's weights are never changed: gradients go to the adapters alone, and every hook is gone after each step.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from loraloom import dialects
from loraloom.bases import Base
from loraloom.errors import SettingsError, WriteFailed
from loraloom.train import checkpoint, precision
from loraloom.train.average import Average
from loraloom.train.cache import Latents, TextCache
from loraloom.train.chance import Order
from loraloom.train.config import ResolvedConfig, TrainConfig, resolve
from loraloom.train.dataset import Dataset, read_dataset
from loraloom.train.dropout import Dropout
from loraloom.train.identity import Identity, Paths
from loraloom.train.interrupt import stop_wishes
from loraloom.train.log import RunLog
from loraloom.train.loss import Process
from loraloom.train.optimizers.course import told
from loraloom.train.optimizers.make import make
from loraloom.train.optimizers.state import check_that_it_survives
from loraloom.train.rates import parameter_groups
from loraloom.train.recompute import recomputed
from loraloom.train.result import Progress, TrainResult
from loraloom.train.run import Note, Notes, Report, Run, silent
from loraloom.train.samples import Draw
from loraloom.train.step import Stepper
from loraloom.train.storage import QUANTISED, store
from loraloom.train.targets import Planned, plan
from loraloom.train.view import View, view
from loraloom.train.warmstart import begun


def train(
    config: TrainConfig,
    pipeline: Any,
    base: Base,
    *,
    draw: Draw | None = None,
    progress: Report | None = None,
    note: Note | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train a network on a live pipeline and write it; the pipeline is bit for bit as before, also after an error, unless
    `base_dtype` says how its weights are to be held, which stays so.

    `draw(network, prompts, seed)` draws sample pictures, `note` hears what the user should know, `stop` is asked after each
    step. Raises SettingsError, DatasetError, TrainingError, WriteFailed; TrainingStopped after Ctrl-C, SIGTERM or `stop`,
    when the state is saved and the same job with `resume` goes on with the bits of a straight run.
    """
    notes = Notes(note)
    job, seen = resolve(config, base), view(pipeline, base)
    paths, planned = Paths(job.output.expanduser().resolve()), plan(job, base)
    _check(job, paths, seen)
    for text in (*precision.check(job, seen), told(job)):
        notes(text)
    dataset = read_dataset(job.pictures, trigger=job.trigger, resolution=job.resolution, tokens_cut=seen.tokens_cut)
    for text in dataset.notes:
        notes(text)
    if job.base_dtype in QUANTISED and draw is not None:
        draw = None
        if job.sample_prompts:
            notes(f"no sample pictures while the base is held as {job.base_dtype}")
    elif job.sample_prompts and draw is None:
        notes("no sample pictures: nothing here can draw them")
    from loraloom.train.trainable import frozen  # a torch module: loads torch

    identity = Identity.of(job, seen, dataset.fingerprint)
    store(seen, job, {item.kind for item in planned})
    with frozen(seen), recomputed(seen, job.components) if job.checkpointing else nullcontext():
        run = _prepare(config, job, base, seen, dataset, planned, paths, identity, notes, progress or silent)
        run.draw = draw
        with stop_wishes() as asked:
            return run.run(lambda: asked() or (stop is not None and stop()))


def _check(job: ResolvedConfig, paths: Paths, seen: View) -> None:
    """Everything that would make the end of the run fail, before its start."""
    dialects.by_name(job.dialect)
    if job.resolution % seen.pixels_per_latent:
        raise SettingsError(f"resolution {job.resolution} is not a multiple of {seen.pixels_per_latent}, the pixels of one latent")
    if paths.output.exists() and not job.overwrite:
        raise SettingsError(f"{paths.output} exists; choose another --output, or replace it with --overwrite")
    if checkpoint.exists(paths.state) and not (job.resume or job.overwrite):
        raise SettingsError(
            f"{paths.state} holds an interrupted run: go on with it with --resume, or start anew with --overwrite, which drops it"
        )
    try:
        paths.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteFailed(f"{paths.output.parent}: cannot be made: {error.strerror or error}; choose another --output") from error


def _prepare(
    config: TrainConfig,
    job: ResolvedConfig,
    base: Base,
    seen: View,
    dataset: Dataset,
    planned: tuple[Planned, ...],
    paths: Paths,
    identity: Identity,
    notes: Notes,
    progress: Report,
) -> Run:
    from loraloom.train.trainable import Trainable, fresh

    adapters = begun(config, job, base, planned, fresh(planned, seen, base, seed=job.seed), notes)
    for target, adapter in adapters.items():
        dialects.by_name(job.dialect).write_tensors(adapter, base.by_target[target], base)  # refuses now what it cannot hold
    rates = {item.layer.target: item.rate for item in planned}
    network = Trainable(seen, base, adapters, rates=rates, dropout=Dropout.of(job))
    updates = make(parameter_groups(network, job), job)
    check_that_it_survives(job, seen.device)
    saved, step = None, 0
    if job.resume and (saved := checkpoint.newest(paths.state)) is not None:
        checkpoint.check_same_run(paths.state, saved, config=identity.config, base=identity.base, dataset=identity.dataset)
        step = saved.step
        if step > job.steps:
            raise SettingsError(f"{paths.state} is after step {step}, the run is to end at {job.steps}; give at least --steps {step}")
        notes(f"going on after step {step} of {job.steps}")
        if changed := checkpoint.differences(saved, checkpoint.machine()):
            notes(f"the result will not be bit-equal to that of a straight run: {changed}")
    elif job.resume:
        notes(f"nothing to resume in {paths.state}: starting at step 1")
    else:
        checkpoint.remove(paths.state)
    total = len(dataset.pictures)
    latents = Latents.encode(seen, dataset, job.resolution, flip=job.flip, done=lambda count: progress(Progress("encode", count, total)))
    texts = None
    if not any(name.startswith("text_encoder") for name in job.components):
        kept = () if job.caption_shuffle else tuple(picture.caption for picture in dataset.pictures)
        texts = TextCache(seen, (*kept, *([""] if job.caption_dropout else [])))
    process = Process.of(seen.prediction, seen.alphas_cumprod, zero_terminal_snr=job.zero_terminal_snr)
    order = Order(job.seed, tuple(picture.name for picture in dataset.pictures), dataset.repeats)
    scaler, average = precision.scaler(job, seen), Average(network, job.ema) if job.ema else None
    stepper = Stepper(job, seen, network, updates, scaler, average, dataset, order, latents, texts, process)
    if saved is not None:
        stepper.restore(saved)
    return Run(job, base, stepper, paths, identity, RunLog(paths.log, step), notes, progress, step)
