"""How a sample is noised, and how its loss counts."""

from typing import ClassVar

from pydantic import BaseModel, Field


class LossFields(BaseModel):
    panel: ClassVar[str] = "Loss and noise"  # of the command's help

    min_snr_gamma: float | None = Field(None, ge=0, description="min-SNR weight of the loss; 0 is off")
    noise_offset: float = Field(0.0, ge=0, le=1, description="brightness noise, for darker darks and brighter lights; 0 is off")
