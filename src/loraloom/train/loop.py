"""A training run from pictures to file: prepare, step, save, publish.

The base's weights are never changed: gradients go to the adapters alone, and every hook is gone after each step.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from loraloom import dialects
from loraloom.atomic import make_folder
from loraloom.bases import Base
from loraloom.errors import SettingsError
from loraloom.lorafile import LoraFile
from loraloom.strength import is_text_encoder
from loraloom.train import checkpoint, precision
from loraloom.train.allocator import kept_memory
from loraloom.train.average import Average
from loraloom.train.base_dtype import QUANTISED, hold
from loraloom.train.cache import Latents, TextCache
from loraloom.train.checkpoint import State
from loraloom.train.config import ResolvedConfig, TrainConfig
from loraloom.train.dataset import Dataset
from loraloom.train.dropout import Dropout
from loraloom.train.facts import brief
from loraloom.train.identity import Identity
from loraloom.train.interrupt import Wishes, listening
from loraloom.train.lock import held
from loraloom.train.log import RunLog
from loraloom.train.loss import Process
from loraloom.train.networks import Networks
from loraloom.train.odd import odd_captions
from loraloom.train.optimizers.course import told
from loraloom.train.optimizers.make import make
from loraloom.train.optimizers.state import check_that_it_survives
from loraloom.train.preflight import Known, Preflight, preflight, sides, state_unasked
from loraloom.train.presets import PRESETS
from loraloom.train.rates import parameter_groups
from loraloom.train.recompute import recomputed
from loraloom.train.record import Record
from loraloom.train.result import Progress, TrainResult
from loraloom.train.run import Note, Notes, Report, Run, silent
from loraloom.train.samples import Draw
from loraloom.train.step import Stepper
from loraloom.train.store import Store
from loraloom.train.validation import Validation
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
    notes, tell = Notes(note), progress or silent
    seen = view(pipeline, base)
    if checked is None or checked.base is not base:
        known = Known(seen.tokens_cut, pixels_per_latent=seen.pixels_per_latent)
        checked = preflight(config, base, known)
    job, paths, dataset = checked.job, checked.paths, checked.dataset
    checked.require_ready()
    if not_whole := next(sides(job, seen.pixels_per_latent), None):
        raise not_whole
    cut = () if checked.counted else odd_captions(dataset, seen.tokens_cut)
    for choice in PRESETS.get(job.preset, ()):
        notes(f"preset {job.preset}: {choice.field} = {getattr(job, choice.field)} ({choice.why})")
    for text in (*brief(checked.facts), *precision.check(job, seen), told(job), *checked.facts.notes, *cut):
        notes(text)
    if job.base_dtype in QUANTISED and draw is not None:
        draw = None
        if job.sample_prompts:
            notes(f"no sample pictures while the base is held as {job.base_dtype}")
    elif job.sample_prompts and draw is None:
        notes("no sample pictures: nothing here can draw them")
    make_folder(paths.output.parent)
    with held(paths.lock):
        return _run(config, checked, seen, notes, tell, draw, stop)


def _run(
    config: TrainConfig, checked: Preflight, seen: View, notes: Notes, tell: Report, draw: Draw | None, stop: Callable[[], bool] | None
) -> TrainResult:
    """The run itself, alone with what it writes. What another run may have left since the job was looked at is asked for again."""
    from loraloom.train.trainable import frozen  # a torch module: loads torch

    job, paths, base = checked.job, checked.paths, checked.base
    identity = Identity.of(job, seen, checked.dataset.pieces)
    networks = Networks(job, base, paths, identity.session)
    for problem in (*networks.taken(), *state_unasked(job, paths)):
        raise problem
    saved = _saved(networks, identity, notes)
    hold(seen, job, {item.kind for item in checked.planned})
    with frozen(seen), recomputed(seen, job.components) if job.checkpointing else nullcontext():
        shelf, wishes = Store(job.cache, base=f"{identity.base} {job.base_dtype} {seen.device.type}"), Wishes()
        stepper = _stepper(config, checked, seen, shelf, notes, tell, wishes)
        validation = _validation(checked.held, stepper, shelf, tell)
        for text in shelf.told():
            notes(text)
        if saved is not None:
            stepper.restore(saved)
        record, step = (Record.of(saved.record), saved.step) if saved is not None else (Record(), 0)
        log = RunLog(paths.log, step)
        run = Run(job, stepper, paths, identity, networks, log, record, validation, notes, tell, wishes, step, draw)
        with listening(wishes), kept_memory():
            return run.run(lambda: stop is not None and stop())


def _saved(networks: Networks, identity: Identity, notes: Notes) -> State | None:
    """The state that the run goes on from, which is its own; None if it begins."""
    job, paths = networks.job, networks.paths
    saved = checkpoint.newest(paths.state) if job.resume else None
    if saved is None:
        if not job.resume:
            checkpoint.remove(paths.state)
        elif networks.has("", job.steps) and not job.overwrite:
            checkpoint.remove(paths.state)  # a kill may have left a part of it
            raise SettingsError(f"{paths.output} is complete: this run has come to its end, there is nothing to go on with")
        else:
            notes(f"nothing to resume in {paths.state}: starting at step 1")
        return None
    checkpoint.check_same_run(paths.state, saved, config=identity.config, base=identity.base, pictures=identity.pictures)
    if saved.step > job.steps:
        raise SettingsError(
            f"{paths.state} is after step {saved.step}, the run is to end at {job.steps}; give at least --steps {saved.step}"
        )
    notes(f"going on after step {saved.step} of {job.steps}")
    if changed := checkpoint.differences(saved, checkpoint.machine()):
        notes(f"the result will not be bit-equal to that of a straight run: {changed}")
    return saved


def _stepper(config: TrainConfig, checked: Preflight, seen: View, shelf: Store, notes: Notes, tell: Report, wishes: Wishes) -> Stepper:
    """A step that begins with new adapters, or those of the warm start."""
    from loraloom.train.trainable import Trainable, fresh

    job, base, planned = checked.job, checked.base, checked.planned
    adapters = begun(config, job, base, planned, fresh(planned, seen, base, seed=job.seed), notes)
    for dialect in job.dialects:
        dialects.refuse_unwritable(LoraFile(adapters, {}, base.family), dialect)
    rates = {item.layer.target: item.rate for item in planned}
    network = Trainable(seen, base, adapters, rates=rates, dropout=Dropout.of(job))
    updates = make(parameter_groups(network, job), job)
    check_that_it_survives(job, seen.device)  # preflight could only guess the device
    latents, texts = _encoded(job, seen, checked.dataset, shelf, tell)
    process = Process.of(seen.prediction, seen.alphas_cumprod, zero_terminal_snr=job.zero_terminal_snr)
    scaler, average = precision.scaler(job, seen), Average(network, job.ema) if job.ema else None
    order, dataset = checked.dataset.order(job.seed), checked.dataset
    made = Stepper(job, seen, network, updates, scaler, average, dataset, order, latents, texts, process)
    return replace(made, abandonable=wishes.abandonable)


def _validation(held: Dataset | None, stepper: Stepper, shelf: Store, tell: Report) -> Validation | None:
    """The same network asked about other pictures."""
    if held is None:
        return None
    latents, texts = _encoded(stepper.config, stepper.view, held, shelf, tell)
    order = held.order(stepper.config.seed)
    return Validation(replace(stepper, dataset=held, order=order, latents=latents, texts=texts), stepper)


def _encoded(job: ResolvedConfig, seen: View, dataset: Dataset, shelf: Store, tell: Report) -> tuple[Latents, TextCache | None]:
    """What the VAE makes of pictures, and what the text encoder makes of captions if it rests."""
    total = len(dataset.pictures)
    latents = Latents.prepare(seen, dataset, job, shelf, done=lambda count: tell(Progress("encode", count, total)))
    if any(map(is_text_encoder, job.components)):
        return latents, None
    kept = tuple(caption for picture in dataset.pictures for caption in picture.captions) if Wording.of(job).is_fixed else ()
    return latents, TextCache(seen, (*kept, *([""] if job.caption_dropout else [])), shelf)
