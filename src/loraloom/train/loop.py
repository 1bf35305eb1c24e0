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
from loraloom.train.config import ResolvedConfig, TrainConfig
from loraloom.train.dataset import Dataset
from loraloom.train.dropout import Dropout
from loraloom.train.facts import brief
from loraloom.train.identity import Identity, Paths
from loraloom.train.interrupt import stop_wishes
from loraloom.train.log import RunLog
from loraloom.train.loss import Process
from loraloom.train.odd import odd_captions
from loraloom.train.optimizers.course import told
from loraloom.train.optimizers.make import make
from loraloom.train.optimizers.state import check_that_it_survives
from loraloom.train.preflight import Known, Preflight, preflight, sides
from loraloom.train.rates import parameter_groups
from loraloom.train.recompute import recomputed
from loraloom.train.result import Progress, TrainResult
from loraloom.train.run import Note, Notes, Report, Run, silent
from loraloom.train.samples import Draw
from loraloom.train.step import Stepper
from loraloom.train.storage import QUANTISED, store
from loraloom.train.store import Store
from loraloom.train.targets import Planned
from loraloom.train.view import View, view
from loraloom.train.warmstart import begun
from loraloom.train.wording import Wording


def train(
    config: TrainConfig,
    pipeline: Any,
    base: Base,
    *,
    draw: Draw | None = None,
    progress: Report | None = None,
    note: Note | None = None,
    checked: Preflight | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train a network on a live pipeline and write it; the pipeline is bit for bit as before, also after an error, unless
    `base_dtype` says how its weights are to be held, which stays so.

    `checked` is what `preflight` said of this job; without it that is asked here. `draw(network, prompts, seed)` draws sample
    pictures, `note` hears what the user should know, `stop` is asked after each step. Raises SettingsError, DatasetError,
    TrainingError, WriteFailed; TrainingStopped after Ctrl-C, SIGTERM or `stop`, when the state is saved and the same job with
    `resume` goes on with the bits of a straight run.
    """
    notes = Notes(note)
    seen = view(pipeline, base)
    if checked is None or checked.base is not base:
        known = Known(seen.tokens_cut, pixels_per_latent=seen.pixels_per_latent)
        checked = preflight(config, base, known)
    job, paths, dataset = checked.job, checked.paths, checked.dataset
    checked.require_ready()
    if not_whole := next(sides(job, seen.pixels_per_latent), None):
        raise not_whole
    cut = () if checked.counted else odd_captions(dataset, seen.tokens_cut)
    for text in (*brief(checked.facts), *precision.check(job, seen), told(job), *checked.facts.notes, *cut):
        notes(text)
    if job.base_dtype in QUANTISED and draw is not None:
        draw = None
        if job.sample_prompts:
            notes(f"no sample pictures while the base is held as {job.base_dtype}")
    elif job.sample_prompts and draw is None:
        notes("no sample pictures: nothing here can draw them")
    _make_room(paths)
    from loraloom.train.trainable import frozen  # a torch module: loads torch

    identity = Identity.of(job, seen, dataset.fingerprint)
    store(seen, job, {item.kind for item in checked.planned})
    with frozen(seen), recomputed(seen, job.components) if job.checkpointing else nullcontext():
        run = _prepare(config, job, base, seen, dataset, checked.planned, paths, identity, notes, progress or silent)
        run.draw = draw
        with stop_wishes() as asked:
            return run.run(lambda: asked() or (stop is not None and stop()))


def _make_room(paths: Paths) -> None:
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
    shelf = Store(job.cache, base=f"{identity.base} {job.base_dtype} {seen.device.type}")
    total = len(dataset.pictures)
    latents = Latents.prepare(seen, dataset, job, shelf, done=lambda count: progress(Progress("encode", count, total)))
    texts = None
    if not any(name.startswith("text_encoder") for name in job.components):
        kept = tuple(picture.caption for picture in dataset.pictures) if Wording.of(job).is_fixed else ()
        texts = TextCache(seen, (*kept, *([""] if job.caption_dropout else [])), shelf)
    for text in shelf.told():
        notes(text)
    process = Process.of(seen.prediction, seen.alphas_cumprod, zero_terminal_snr=job.zero_terminal_snr)
    scaler, average = precision.scaler(job, seen), Average(network, job.ema) if job.ema else None
    order = dataset.order(job.seed)
    stepper = Stepper(job, seen, network, updates, scaler, average, dataset, order, latents, texts, process)
    if saved is not None:
        stepper.restore(saved)
    return Run(job, base, stepper, paths, identity, RunLog(paths.log, step), notes, progress, step)
