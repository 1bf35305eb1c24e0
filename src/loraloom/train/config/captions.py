"""Where captions come from, and what chance makes of them."""

from typing import ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

from loraloom.train.texts import is_encoding

CaptionLines = Literal["choose", "join"]


class CaptionFields(BaseModel):
    panel: ClassVar[str] = "Captions"  # of the command's help

    caption: str = Field("", max_length=2000, description="one caption for every picture, instead of its own")
    caption_lines: CaptionLines = Field(
        "choose", description="several lines of a caption file: choose one of them by chance at each step, or join them to one caption"
    )
    caption_encoding: str = Field("", max_length=40, description="encoding of caption files that are not UTF-8, as latin-1 or cp932")
    caption_from_name: bool = Field(False, description="captions from file names, for pictures that have no other")
    caption_prefix: str = Field("", max_length=1000, description="words in front of every caption")
    caption_suffix: str = Field("", max_length=1000, description="words after every caption")
    caption_dropout: float | None = Field(None, ge=0, le=1, description="part of the captions that are left out")
    caption_shuffle: bool = Field(False, description="shuffle the comma-separated parts of captions; the trigger stays first")
    tag_dropout: float = Field(0.0, ge=0, le=1, description="part of the comma-separated parts that are left out; the trigger stays")
    keep_first: int = Field(0, ge=0, le=1000, description="so many parts at the beginning are neither shuffled nor left out")

    @field_validator("caption_encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        if name and not is_encoding(name):
            raise ValueError("is no encoding of text; common are latin-1, cp1252, utf-16, cp932, gb18030, cp1251")
        return name
