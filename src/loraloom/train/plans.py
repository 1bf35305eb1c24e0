"""What is odd about a plan that can be carried out: told before the run, with what to do instead."""

from collections.abc import Iterator

from loraloom.bases import Base
from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset
from loraloom.train.defaults import DEFAULTS
from loraloom.train.optimizers.known import known
from loraloom.train.wording import PLACEHOLDERS

_OFTEN = 150  # times that each picture is seen; the field's habit is about a hundred
_USUAL = 100
_FAR = 30  # times the usual learning rate, or that part of it
_SIDES = 2  # times the base's own resolution


def odd_plan(job: ResolvedConfig, dataset: Dataset, base: Base) -> Iterator[str]:
    """No trigger, pictures that are seen too often or never, numbers far from what the base is used to, options that come too late."""
    yield from _trigger(job, dataset)
    yield from _course(job, dataset)
    yield from _far(job, base)
    asked = {"save_every": True, "sample_every": job.sample_prompts, "validate_every": job.validation or job.validation_share}
    for name in (name for name, wanted in asked.items() if wanted):
        if (every := getattr(job, name)) > job.steps:
            yield f"{name} is {every}, the run has {job.steps} steps: it comes at the end alone; take {max(1, job.steps // 10)}"
    if job.warmup >= job.steps > 1:
        yield f"the learning rate rises over {job.warmup} steps, the run has {job.steps}: it is never reached; give a smaller --warmup"
    if job.caption_dropout == 1:
        yield "caption_dropout 1 leaves every caption out, so no word is learned; a tenth is usual"


def _trigger(job: ResolvedConfig, dataset: Dataset) -> Iterator[str]:
    if job.trigger:
        return
    if meant := [picture.name for picture in dataset.own if PLACEHOLDERS.search(picture.caption)]:
        count = f"{len(meant)} captions have" if len(meant) > 1 else f"the caption of {meant[0]} has"
        yield f"{count} a place for the trigger ([trigger]), and there is none: it is trained as it stands; give the word with --trigger"
    else:
        yield (
            "no trigger word is set, so no word calls what is learned: it is in every picture that the LoRA draws; "
            "to call it by a word give one that means nothing to the base with --trigger"
        )


def _course(job: ResolvedConfig, dataset: Dataset) -> Iterator[str]:
    """How often each picture is seen, on average."""
    epoch, own = dataset.order(job.seed).epoch_length, dataset.own
    epochs = job.steps * job.per_step / epoch
    times = epochs * sum(picture.folder.repeats for picture in own) / len(own)
    few = f"{len(own)} picture{'s' if len(own) > 1 else ''}"
    if times > _OFTEN:
        less = max(1, round(job.steps * _USUAL / times))
        yield (
            f"each of {few} is seen about {times:.0f} times ({epochs:.3g} epochs), which often memorises them: add pictures, "
            f"or end sooner (--steps {less} sees each {_USUAL} times); --keep -1 keeps earlier steps to choose from, "
            "--validation-share 0.2 tells when it overfits"
        )
    if epochs < 1:
        yield f"the run ends before every picture was seen once ({epochs:.2g} epochs): --steps {-(-epoch // job.per_step)} sees each"
    if job.batch > epoch:
        yield f"a batch of {job.batch} takes each of {few} more than once: it learns no more than --batch {epoch}, and takes longer"


def _far(job: ResolvedConfig, base: Base) -> Iterator[str]:
    defaults = DEFAULTS[base.family]
    usual = defaults.learning_rate * known(job.optimizer).rate_part
    if known(job.optimizer).rate is None and not usual / _FAR <= job.effective_rate <= usual * _FAR:
        told = f"learning rate {job.learning_rate:g} · alpha {job.alpha:g} / rank {job.rank} = {job.effective_rate:g}"
        what = "pictures may burn or the loss become NaN" if job.effective_rate > usual else "hardly anything may be learned"
        yield f"{told}, the base's usual is {usual:g}: {what}; --lr {usual * job.learning_rate / job.effective_rate:.2g} is as usual"
    if not base.resolution / _SIDES <= job.resolution <= base.resolution * _SIDES:
        yield f"resolution {job.resolution} is far from the base's own, {base.resolution}, at which it draws best; leave --resolution out"
