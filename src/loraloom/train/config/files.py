"""What is written, and when."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator

from loraloom.errors import SettingsError
from loraloom.tensorfile.dtypes import dtype_called
from loraloom.train.config.option import Flags, several
from loraloom.train.sampleprompts import MOST, SamplePrompt

Dtype = Literal["float16", "bfloat16", "float32"]


class FileFields(BaseModel):
    panel: ClassVar[str] = "File and state"  # of the command's help

    sample_prompts: Annotated[tuple[str, ...], Flags("--sample")] = Field(
        (), max_length=MOST, description="prompts that are drawn as the run goes; kohya's --n --w --h --s --l --d may follow in them"
    )
    sample_file: Annotated[Path | None, Flags("--sample-prompts")] = Field(None, description="text file with more of them, one a line")
    sample_every: int | None = Field(None, ge=1, description="steps between sample pictures [default: a quarter of the run]")
    save_every: int | None = Field(None, ge=1, description="steps between saved states [default: a tenth of the run]")
    keep: int = Field(
        0, ge=-1, description="LoRAs of earlier steps that stay beside the file, one for each save: the last so many; -1 keeps all"
    )
    keep_best: bool = Field(
        False, description="keep the LoRA of the lowest held-out loss too; without held-out pictures, of the lowest smoothed loss"
    )
    dialects: Annotated[tuple[str, ...], BeforeValidator(several), Flags("--dialect")] = Field(
        ("kohya",), min_length=1, description="how the file names its tensors: kohya or peft; several make a file for each"
    )
    dtype: Annotated[Dtype, BeforeValidator(dtype_called)] = Field("float16", description="number format of the file")
    resume: bool = Field(False, description="go on where an interrupted run stopped")
    overwrite: bool = Field(False, description="replace an existing file, or drop an interrupted run's state")
    keep_state: bool = Field(False, description="keep the training state when the run is complete")

    @field_validator("sample_prompts")
    @classmethod
    def _prompts_can_be_drawn(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for prompt in prompts:
                SamplePrompt.of(prompt)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return prompts
