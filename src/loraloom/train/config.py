"""A training job: the only definition of it. Command-line options, web form and the saved recipe derive from `TrainConfig`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loraloom.adapters import TYPES
from loraloom.bases import Base
from loraloom.errors import SettingsError, suggestion
from loraloom.train.defaults import DEFAULTS, Scheduler

_CONSTANT_WARMUP = 10  # steps; not a part of the run, which may be made longer
Dtype = Literal["float16", "bfloat16", "float32"]


class TrainConfig(BaseModel):
    """One run. Where a field is None the family's default counts (`resolve`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pictures: Path = Field(description="folder with the pictures and their captions")
    trigger: str = Field("", max_length=200, description="word that calls what is learned; put in front of captions that lack it")
    base: str | None = Field(None, description="base model: tiny, a folder, a .safetensors file or a hub name [default: the setting's]")
    output: Path | None = Field(None, description="file to write [default: TRIGGER.safetensors]")
    title: str = Field("", description="title in the file's metadata [default: the file's name]")
    author: str = Field("", description="who made it, in the file's metadata")
    license: str = Field("", description="licence of the file, in its metadata")
    description: str = Field("", description="what it does, in the file's metadata")

    type: str = Field("lora", description="adapter type")
    rank: int | None = Field(None, ge=1, le=4096, description="rank of the adapters: their size")
    alpha: float | None = Field(None, gt=0, description="scale of the adapters: alpha/rank multiplies them [default: the rank]")
    conv_rank: int = Field(0, ge=0, le=4096, description="rank on convolutions larger than 1×1 (LoCon); 0 leaves them alone")
    conv_alpha: float | None = Field(None, gt=0, description="alpha on those convolutions [default: their rank]")
    tucker: bool = Field(False, description="a Tucker core on those convolutions")
    components: tuple[str, ...] = Field(("unet",), min_length=1, description="what is trained: unet, text_encoder")

    steps: int | None = Field(None, ge=1, description="optimiser steps")
    batch: int | None = Field(None, ge=1, description="pictures in one pass")
    accumulate: int = Field(1, ge=1, description="passes in one step; the gradient is that of batch × accumulate pictures")
    learning_rate: float | None = Field(None, gt=0, description="learning rate of the denoiser; look at it together with alpha/rank")
    text_encoder_learning_rate: float | None = Field(None, gt=0, description="learning rate of the text encoder [default: a half]")
    scheduler: Scheduler | None = Field(None, description="course of the learning rate after the warm-up: constant or cosine")
    warmup: int | None = Field(
        None, ge=0, description="steps over which the learning rate rises from 0 [default: a twentieth of the run; 10 if constant]"
    )
    optimizer: str = Field("adamw", description="optimiser")
    weight_decay: float = Field(0.01, ge=0, description="decay of the adapters' tensors towards 0")
    max_grad_norm: float = Field(1.0, ge=0, description="longer gradients are cut to this length; 0 never cuts")

    min_snr_gamma: float | None = Field(None, ge=0, description="min-SNR weight of the loss; 0 is off")
    noise_offset: float = Field(0.0, ge=0, le=1, description="brightness noise, for darker darks and brighter lights; 0 is off")
    caption_dropout: float | None = Field(None, ge=0, le=1, description="part of the captions that are left out")
    caption_shuffle: bool = Field(False, description="shuffle the comma-separated parts of captions; the trigger stays first")
    flip: bool = Field(False, description="mirror every second picture by chance")
    resolution: int | None = Field(None, ge=8, le=4096, description="pixels a side [default: the base's]")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything that is random")

    sample_prompts: tuple[str, ...] = Field((), max_length=16, description="prompts that are drawn as the run goes")
    sample_every: int | None = Field(None, ge=1, description="steps between sample pictures [default: a quarter of the run]")
    save_every: int | None = Field(None, ge=1, description="steps between saved states [default: a tenth of the run]")
    snapshots: bool = Field(False, description="write the LoRA itself too whenever a state is saved")
    dialect: str = Field("kohya", description="how the file names its tensors: kohya or peft")
    dtype: Dtype = Field("float16", description="number format of the file")
    resume: bool = Field(False, description="go on where an interrupted run stopped")
    overwrite: bool = Field(False, description="replace an existing file, or drop an interrupted run's state")
    keep_state: bool = Field(False, description="keep the training state when the run is complete")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.conv_rank == 0 and (self.conv_alpha is not None or self.tucker):
            raise ValueError("conv_alpha and tucker need a conv_rank above 0")
        if self.text_encoder_learning_rate is not None and not any(name.startswith("text_encoder") for name in self.components):
            raise ValueError("text_encoder_learning_rate is set, but no text encoder is in components")
        if self.type not in (names := [kind.name for kind in TYPES]):
            raise ValueError(f"no adapter type {self.type!r}{suggestion(self.type, names) or '; known are ' + ', '.join(names)}")
        return self


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
    sample_every: int
    save_every: int

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return self  # checked before the defaults came in, which set what has no effect too

    def learning_rate_of(self, component: str) -> float:
        return self.text_encoder_learning_rate if component.startswith("text_encoder") else self.learning_rate

    @property
    def per_step(self) -> int:
        """Pictures in one step."""
        return self.batch * self.accumulate


def read_config(values: Mapping[str, Any]) -> TrainConfig:
    """A job from named values; raises SettingsError that names every wrong one."""
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError("training options: " + "; ".join(_explain(item) for item in error.errors())) from error


def _explain(item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"there is no option {name!r}{suggestion(name, TrainConfig.model_fields)}"
    if item["type"] == "missing":
        return f"{name} is missing: {TrainConfig.model_fields[name].description}"
    reason = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{name} = {item['input']!r} {reason}" if name else reason


def resolve(config: TrainConfig, base: Base) -> ResolvedConfig:
    """The job with every None decided for this family; raises SettingsError for components that the base does not have, and for a
    family that does not train yet."""
    unknown = [name for name in config.components if name not in base.components]
    if unknown:
        raise SettingsError(f"components: {base.title} has no {' or '.join(unknown)}; it has {', '.join(base.components)}")
    defaults = DEFAULTS.get(base.family)
    if defaults is None:
        raise SettingsError(f"training {base.title} is not possible yet; families that train are {', '.join(DEFAULTS)}")
    given = {name: value for name, value in config.model_dump().items() if value is not None}
    steps = given.get("steps", defaults.steps)
    rank = given.get("rank", defaults.rank)
    rate = given.get("learning_rate", defaults.learning_rate)
    scheduler = given.get("scheduler", defaults.scheduler)
    decided = {
        "base": base.family,
        "rank": rank,
        "alpha": float(rank),
        "conv_alpha": float(config.conv_rank or rank),
        "steps": steps,
        "batch": defaults.batch,
        "learning_rate": rate,
        "text_encoder_learning_rate": rate * defaults.text_encoder,
        "scheduler": scheduler,
        "warmup": _CONSTANT_WARMUP if scheduler == "constant" else int(steps * defaults.warmup),
        "min_snr_gamma": defaults.min_snr_gamma,
        "caption_dropout": defaults.caption_dropout,
        "resolution": base.resolution,
        "sample_every": max(1, steps // 4),
        "save_every": max(1, steps // 10),
    }
    return ResolvedConfig.model_validate(decided | given | {"output": _output(config)})


def _output(config: TrainConfig) -> Path:
    """The file to write, always with the ending."""
    if config.output is None:
        word = re.sub(r"[^\w.-]+", "_", config.trigger).strip("._")
        return Path(f"{word or config.pictures.resolve().name or 'lora'}.safetensors")
    return config.output if config.output.suffix == ".safetensors" else config.output.with_name(config.output.name + ".safetensors")
