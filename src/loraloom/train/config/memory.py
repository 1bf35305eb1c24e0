"""What a step keeps in memory, and in which numbers it computes."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field

from loraloom.tensorfile.dtypes import dtype_called

MixedPrecision = Literal["no", "bfloat16", "float16"]
BaseDtype = Literal["loaded", "float32", "bfloat16", "float16", "float8", "int8", "nf4"]


class MemoryFields(BaseModel):
    panel: ClassVar[str] = "Memory and precision"  # of the command's help

    checkpointing: bool = Field(
        False, description="compute the base's layers twice instead of keeping what they gave: less memory, longer steps"
    )
    mixed_precision: Annotated[MixedPrecision, BeforeValidator(dtype_called)] = Field(
        "no", description="number format of matrix products: bfloat16, float16 (GPU only), or no: that of the base's weights"
    )
    base_dtype: Annotated[BaseDtype, BeforeValidator(dtype_called)] = Field(
        "loaded", description="number format in which the frozen base is held: float32, bfloat16, float16, float8, int8 or nf4"
    )
