"""How pictures and captions become samples."""

from typing import ClassVar

from pydantic import BaseModel, Field


class PictureFields(BaseModel):
    panel: ClassVar[str] = "Pictures and captions"  # of the command's help

    caption_dropout: float | None = Field(None, ge=0, le=1, description="part of the captions that are left out")
    caption_shuffle: bool = Field(False, description="shuffle the comma-separated parts of captions; the trigger stays first")
    flip: bool = Field(False, description="mirror every second picture by chance")
    resolution: int | None = Field(None, ge=8, le=4096, description="pixels a side [default: the base's]")
