"""What a run is about, and what its file says about itself."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, Field

from loraloom.train.config.option import Flags, MayBePath, several


class JobFields(BaseModel):
    panel: ClassVar[str] = ""  # of the command's help

    pictures: Annotated[tuple[Path, ...], BeforeValidator(several)] = Field(
        min_length=1, description="folders with the pictures and their captions; in FOLDER:5 each picture counts five times"
    )
    preset: str = Field("", description="values for a purpose, where you give none: style, character, few or fast")
    trigger: Annotated[str, Flags("--trigger", "-t")] = Field(
        "", max_length=200, description="word that calls what is learned; put in front of captions that lack it"
    )
    base: Annotated[str | None, Flags("--base", "-b"), MayBePath()] = Field(
        None, description="base model: tiny, a folder, a .safetensors file or a hub name [default: the setting's]"
    )
    output: Annotated[str | Path | None, Flags("--output", "-o")] = Field(
        None, description="file to write: a name in the library, or a path [default: TRIGGER.safetensors]"
    )
    title: str = Field("", description="title in the file's metadata [default: the file's name]")
    author: str = Field("", description="who made it, in the file's metadata")
    license: str = Field("", description="licence of the file, in its metadata")
    description: str = Field("", description="what it does, in the file's metadata")
