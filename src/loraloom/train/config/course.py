"""Steps, learning rates, the optimiser."""

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from loraloom.train.config.option import Flags
from loraloom.train.defaults import Scheduler
from loraloom.train.optimizers.known import called, known


def _scheduler(name: object) -> object:
    """diffusers' and kohya's name for a constant rate after a warm-up, which every course here begins with."""
    return "constant" if name == "constant_with_warmup" else name


class CourseFields(BaseModel):
    panel: ClassVar[str] = "Course of the run"  # of the command's help

    steps: Annotated[int | None, Flags("--steps", "-n")] = Field(None, ge=1, description="optimiser steps")
    batch: int | None = Field(None, ge=1, description="pictures in one pass")
    accumulate: int = Field(1, ge=1, description="passes in one step; the gradient is that of batch × accumulate pictures")
    learning_rate: Annotated[float | None, Flags("--lr", "--learning-rate")] = Field(
        None, gt=0, description="learning rate of the denoiser; look at it together with alpha/rank"
    )
    text_encoder_learning_rate: Annotated[float | None, Flags("--text-encoder-lr")] = Field(
        None, gt=0, description="learning rate of the text encoder [default: a half]"
    )
    scheduler: Annotated[Scheduler | None, BeforeValidator(_scheduler)] = Field(
        None,
        description="course of the learning rate after the warm-up: constant, linear, cosine, cosine_with_restarts, polynomial or rex",
    )
    warmup: int | None = Field(
        None, ge=0, description="steps over which the learning rate rises from 0 [default: a twentieth of the run; 10 if constant]"
    )
    restarts: int = Field(1, ge=1, le=1000, description="how often cosine_with_restarts falls to 0")
    power: float = Field(1.0, gt=0, le=100, description="exponent of polynomial: above 1 the learning rate falls early")
    optimizer: Annotated[str, BeforeValidator(called)] = Field(
        "adamw",
        description="optimiser: adamw, adamw8bit, adafactor, lion, prodigy, adamw_schedulefree, sgd, or module.Class of any package",
    )
    optimizer_options: Annotated[tuple[str, ...], Flags("--optimizer-option")] = Field(
        (), max_length=32, description="option of the optimiser, as in betas=0.9,0.99; as often as needed"
    )
    weight_decay: float = Field(0.01, ge=0, description="decay of the adapters' tensors towards 0")
    max_grad_norm: float = Field(1.0, ge=0, description="longer gradients are cut to this length; 0 never cuts")
    ema: float = Field(0.0, ge=0, lt=1, description="publish a moving average of the adapters with this memory, as 0.999; 0 is off")
    no_resume: bool = Field(False, description="save no state: for optimisers whose state cannot be saved; an interrupted run is lost")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything that is random")

    @model_validator(mode="after")
    def _course_is_consistent(self) -> Self:
        if self.restarts != 1 and self.scheduler != "cosine_with_restarts":
            raise ValueError("restarts needs the scheduler cosine_with_restarts")
        if self.power != 1 and self.scheduler != "polynomial":
            raise ValueError("power needs the scheduler polynomial")
        if known(self.optimizer).courseless and (self.scheduler not in (None, "constant") or self.ema):
            what = "ema" if self.ema else f"the scheduler {self.scheduler}"
            raise ValueError(f"{self.optimizer} averages what it learned by itself; leave out {what}")
        return self
