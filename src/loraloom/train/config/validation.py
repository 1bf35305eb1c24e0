"""Pictures that are not trained on, and what they are asked."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, Field

from loraloom.train.config.option import several


class ValidationFields(BaseModel):
    panel: ClassVar[str] = "Held-out pictures"  # of the command's help

    validation: Annotated[tuple[Path, ...], BeforeValidator(several)] = Field(
        (), description="folder with pictures of the same kind that are not trained on; their loss tells overfitting"
    )
    validation_share: float = Field(0.0, ge=0, le=0.5, description="part of your own pictures that is held out instead")
    validate_every: int | None = Field(None, ge=1, description="steps between looks at them [default: as often as is saved]")
