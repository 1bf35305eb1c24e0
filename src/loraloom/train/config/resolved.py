"""A job in which every None is decided."""

import math
import re
from pathlib import Path
from typing import Self

from pydantic import model_validator

from loraloom.bases import Base
from loraloom.bases.base import TEXT_ENCODERS
from loraloom.errors import SettingsError
from loraloom.filenames import SUFFIX, has_ending
from loraloom.newfile import new_path
from loraloom.strength import is_text_encoder
from loraloom.train.config.source import Source
from loraloom.train.config.train import TrainConfig
from loraloom.train.defaults import DEFAULTS, Scheduler
from loraloom.train.optimizers.known import known
from loraloom.train.presets import preset_values
from loraloom.train.sampleprompts import MOST, SamplePrompt, of_file

_LARGE, _LARGE_STEP, _SMALL_STEP = 512, 64, 8  # pixels: from this resolution on sides of buckets are multiples of 64
_NAME = 150  # bytes of a name that is made here; file systems take 255 with all endings
_CONSTANT_WARMUP = 10  # steps; not a part of the run, which may be made longer


class ResolvedConfig(TrainConfig):
    """A job in which everything is decided: what runs, and what is written down."""

    base: str
    output: Path
    rank: int
    alpha: float
    conv_alpha: float
    steps: int
    batch: int
    learning_rate: float
    text_encoder_learning_rate: float
    scheduler: Scheduler
    warmup: int
    min_snr_gamma: float
    caption_dropout: float
    resolution: int
    bucket_step: int
    bucket_min: int
    bucket_max: int
    sample_every: int
    save_every: int
    validate_every: int

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return self  # checked before the defaults came in, which set what has no effect too

    @property
    def effective_rate(self) -> float:
        """lr · alpha/r of the denoiser (alpha/√r with rsLoRA): a step changes a weight by as much, so runs are compared by it."""
        return self.learning_rate * self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def learning_rate_of(self, component: str) -> float:
        return self.text_encoder_learning_rate if is_text_encoder(component) else self.learning_rate

    @property
    def per_step(self) -> int:
        """Pictures in one step."""
        return self.batch * self.accumulate


def resolve(config: TrainConfig, base: Base) -> ResolvedConfig:
    """The job with every None decided for this family; raises SettingsError for components that the base does not have, and for a
    family that does not train yet."""
    defaults = DEFAULTS.get(base.family)
    if defaults is None:
        raise SettingsError(f"training {base.title} is not possible yet; families that train are {', '.join(DEFAULTS)}")
    optimizer = known(config.optimizer)
    given = preset_values(config.preset, defaults, optimizer) | config.said()
    if "text_encoder_learning_rate" in config.said():
        given = {"components": (*config.components, TEXT_ENCODERS)} | given
    side = given.get("resolution", base.resolution)
    step = given.get("bucket_step", _LARGE_STEP if side >= _LARGE else _SMALL_STEP)
    steps = given.get("steps", defaults.steps)
    rank = given.get("rank", defaults.rank)
    rate = given.get("learning_rate", optimizer.rate or defaults.learning_rate * optimizer.rate_part)
    scheduler = given.get("scheduler", "constant" if optimizer.courseless else defaults.scheduler)
    save_every = given.get("save_every", max(1, steps // 10))
    decided = {
        "base": base.family,
        "components": base.named(given.pop("components", config.components)),
        "rank": rank,
        "alpha": float(rank),
        "conv_alpha": float(given.get("conv_rank") or rank),
        "steps": steps,
        "batch": defaults.batch,
        "learning_rate": rate,
        "text_encoder_learning_rate": rate * (1 if optimizer.rate else defaults.text_encoder),
        "scheduler": scheduler,
        "warmup": _CONSTANT_WARMUP if scheduler == "constant" else int(steps * defaults.warmup),
        "min_snr_gamma": 0.0 if config.debiased_estimation else defaults.min_snr_gamma,
        "caption_dropout": defaults.caption_dropout,
        "resolution": side,
        "bucket_step": step,
        "bucket_min": max(step, side // 2 // step * step),
        "bucket_max": max(step, side * 2 // step * step),
        "sample_every": max(1, steps // 4),
        "save_every": save_every,
        "validate_every": save_every,
    }
    told = {"output": _output(config), "sample_prompts": _prompts(config), "sample_file": None}
    return ResolvedConfig.model_validate(decided | given | told)


def _prompts(config: TrainConfig) -> tuple[str, ...]:
    """The job's own and those of its file. Raises SettingsError for one that cannot be drawn, and for too many."""
    if config.sample_file is None:
        return config.sample_prompts
    prompts = (*config.sample_prompts, *of_file(config.sample_file))
    for prompt in prompts:
        SamplePrompt.of(prompt)
    if len(prompts) > MOST:
        raise SettingsError(f"{config.sample_file}: {len(prompts)} sample prompts, at most {MOST} are drawn; leave some out")
    return prompts


def usual_name(config: TrainConfig) -> str:
    """What the file is called where the job does not say: for its trigger, else for its pictures."""
    word = re.sub(r"[^\w.-]+", "_", config.trigger).strip("._").encode()[:_NAME].decode(errors="ignore")
    return f"{word or Source.of(config.pictures[0]).name or 'lora'}.safetensors"


def _output(config: TrainConfig) -> Path:
    """The file to write, always with the ending."""
    usual = usual_name(config)
    path = new_path(usual if config.output is None else config.output, usual=usual)
    return path if has_ending(path.name) else path.with_name(path.name + SUFFIX)
