"""Which modules get which adapters."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from loraloom.train.config.option import Flags


class AdapterFields(BaseModel):
    panel: ClassVar[str] = "What is trained"  # of the command's help

    type: str = Field("lora", description="adapter type")
    rank: int | None = Field(None, ge=1, le=4096, description="rank of the adapters: their size")
    alpha: float | None = Field(None, gt=0, description="scale of the adapters: alpha/rank multiplies them [default: the rank]")
    conv_rank: int = Field(0, ge=0, le=4096, description="rank on convolutions larger than 1×1 (LoCon); 0 leaves them alone")
    conv_alpha: float | None = Field(None, gt=0, description="alpha on those convolutions [default: their rank]")
    tucker: bool = Field(False, description="a Tucker core on those convolutions")
    components: Annotated[tuple[str, ...], Flags("--component")] = Field(
        ("unet",), min_length=1, description="what is trained: unet, text_encoder"
    )
