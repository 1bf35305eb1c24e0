"""Where captions come from, and what chance makes of them."""

from typing import ClassVar

from pydantic import BaseModel, Field


class CaptionFields(BaseModel):
    panel: ClassVar[str] = "Captions"  # of the command's help

    caption: str = Field("", max_length=2000, description="one caption for every picture, instead of its own")
    caption_from_name: bool = Field(False, description="captions from file names, for pictures that have no other")
    caption_prefix: str = Field("", max_length=1000, description="words in front of every caption")
    caption_suffix: str = Field("", max_length=1000, description="words after every caption")
    caption_dropout: float | None = Field(None, ge=0, le=1, description="part of the captions that are left out")
    caption_shuffle: bool = Field(False, description="shuffle the comma-separated parts of captions; the trigger stays first")
    tag_dropout: float = Field(0.0, ge=0, le=1, description="part of the comma-separated parts that are left out; the trigger stays")
    keep_first: int = Field(0, ge=0, le=1000, description="so many parts at the beginning are neither shuffled nor left out")
