"""Steps, learning rates, the optimiser."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from loraloom.train.config.option import Flags
from loraloom.train.defaults import Scheduler


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
    scheduler: Scheduler | None = Field(None, description="course of the learning rate after the warm-up: constant or cosine")
    warmup: int | None = Field(
        None, ge=0, description="steps over which the learning rate rises from 0 [default: a twentieth of the run; 10 if constant]"
    )
    optimizer: str = Field("adamw", description="optimiser")
    weight_decay: float = Field(0.01, ge=0, description="decay of the adapters' tensors towards 0")
    max_grad_norm: float = Field(1.0, ge=0, description="longer gradients are cut to this length; 0 never cuts")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything that is random")
