"""Training on a base of the session: everything is looked at before it is loaded, and sample pictures are drawn with its defaults."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loraloom import train as trainer
from loraloom.generate.draw import Shot, draw
from loraloom.generate.emphasis import emphasised
from loraloom.generate.opened import Opened
from loraloom.generate.request import Drawing
from loraloom.generate.unopened import look
from loraloom.lorafile import LoraFile, Mix
from loraloom.session.bases import Bases
from loraloom.strength import Strength
from loraloom.train import Progress, ResolvedConfig, TrainConfig, TrainResult
from loraloom.train.base_dtype import read_as
from loraloom.train.preflight import Known, Preflight
from loraloom.train.preflight import preflight as look_ahead
from loraloom.train.run import Note, Report
from loraloom.train.sampleprompts import SamplePrompt

if TYPE_CHECKING:
    from PIL.Image import Image


def preflight(bases: Bases, config: TrainConfig, progress: Report | None) -> Preflight:
    """The job looked at; the base is opened only where its files are not here."""
    config = _with_base(bases, config)
    source = bases.name(config.base)
    seen = look(source)
    known = Known(seen.tokens_cut, seen.weights, seen.width, seen.pixels_per_latent) if seen else None
    tell = progress or (lambda _: None)
    base = seen.base if seen else bases.open(source).base
    return look_ahead(config, base, known, done=lambda count, total: tell(Progress("look", count, total)))


def train(bases: Bases, config: TrainConfig, progress: Report | None, note: Note | None) -> TrainResult:
    """The network trained and written."""
    checked = preflight(bases, config, progress)
    checked.require_ready()  # before minutes are spent on loading
    config = _with_base(bases, config)
    side = max(8, checked.job.resolution // 8 * 8)  # as large as what is learned: what the network is for, in the memory that it has
    usual = config.base_dtype == "loaded"  # a base that is held otherwise is nobody else's
    opened = bases.open(config.base) if usual else bases.alone(config.base, read_as(config.base_dtype))

    def sample(network: LoraFile, prompts: Sequence[str], seed: int) -> "list[Image]":
        wishes = [SamplePrompt.of(prompt) for prompt in prompts]
        with emphasised(opened.pipeline), opened.engine.attached(Mix(((network, Strength.of(1.0)),)), steps=opened.style(Drawing()).steps):
            return [picture for wish in wishes for picture in _drawn(opened, wish, side, seed)]

    return trainer.train(config, opened.pipeline, opened.base, draw=sample, progress=progress, note=note, checked=checked)


def _drawn(opened: Opened, wish: SamplePrompt, side: int, seed: int) -> "Iterator[Image]":
    """One sample picture; what its prompt does not say is the run's and the base's."""
    asked = Drawing.of(steps=wish.steps, guidance=wish.guidance, width=wish.width or side, height=wish.height or side)
    shot = Shot(wish.text, seed if wish.seed is None else wish.seed, wish.negative)
    return draw(opened.pipeline, [shot], opened.style(asked))


def resolve(bases: Bases, config: TrainConfig) -> ResolvedConfig:
    """The job with everything decided for its base."""
    config = _with_base(bases, config)
    seen = look(config.base or "")
    return trainer.resolve(config, seen.base if seen else bases.open(config.base).base)


def _with_base(bases: Bases, config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"base": bases.name(config.base)})
