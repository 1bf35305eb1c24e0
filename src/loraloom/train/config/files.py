"""What is written, and when."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from loraloom.train.config.option import Flags

Dtype = Literal["float16", "bfloat16", "float32"]


class FileFields(BaseModel):
    panel: ClassVar[str] = "File and state"  # of the command's help

    sample_prompts: Annotated[tuple[str, ...], Flags("--sample")] = Field(
        (), max_length=16, description="prompts that are drawn as the run goes"
    )
    sample_every: int | None = Field(None, ge=1, description="steps between sample pictures [default: a quarter of the run]")
    save_every: int | None = Field(None, ge=1, description="steps between saved states [default: a tenth of the run]")
    snapshots: bool = Field(False, description="write the LoRA itself too whenever a state is saved")
    dialect: str = Field("kohya", description="how the file names its tensors: kohya or peft")
    dtype: Dtype = Field("float16", description="number format of the file")
    resume: bool = Field(False, description="go on where an interrupted run stopped")
    overwrite: bool = Field(False, description="replace an existing file, or drop an interrupted run's state")
    keep_state: bool = Field(False, description="keep the training state when the run is complete")
