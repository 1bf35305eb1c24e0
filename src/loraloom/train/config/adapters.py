"""Which modules get which adapters."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from loraloom.train.config.option import Flags

# What says which adapters there are: with any of it given, a warm start's file must be what the job asks for.
WHICH_ADAPTERS = {"type", "rank", "alpha", "conv_rank", "conv_alpha", "tucker", "dora", "rslora", "targets"}


class AdapterFields(BaseModel):
    panel: ClassVar[str] = "What is trained"  # of the command's help

    type: str = Field("lora", description="adapter type with its options: lora, lokr:factor=8, oft:block_size=8:rescaled")
    rank: int | None = Field(None, ge=1, le=4096, description="rank of the adapters: their size")
    alpha: float | None = Field(None, gt=0, description="scale of the adapters: alpha/rank multiplies them [default: the rank]")
    conv_rank: int = Field(0, ge=0, le=4096, description="rank on convolutions larger than 1×1 (LoCon); 0 leaves them alone")
    conv_alpha: float | None = Field(None, gt=0, description="alpha on those convolutions [default: their rank]")
    tucker: bool = Field(False, description="a Tucker core on those convolutions")
    dora: bool = Field(False, description="a magnitude for each output beside the direction (DoRA), around any type")
    rslora: bool = Field(False, description="alpha/√rank instead of alpha/rank (rsLoRA); files say it as a larger alpha")
    components: Annotated[tuple[str, ...], Flags("--component")] = Field(
        ("unet",), min_length=1, description="what is trained: unet, text_encoder, text_encoder_2; te is every text encoder of the base"
    )
    targets: Annotated[tuple[str, ...], Flags("--target")] = Field(
        (),
        max_length=64,
        description="which modules, and how: 'attn*=lora:16', 'mid/default=lokr:factor=8', '!*time_emb*'; the last that fits",
    )
    warm_start: Path | None = Field(None, description="network to begin with: a file, or a folder of PEFT's")
    dropout: float = Field(0.0, ge=0, lt=1, description="part of an adapter's input that is left out by chance, for each picture")
    rank_dropout: float = Field(0.0, ge=0, lt=1, description="part of the ranks that rest by chance, for each step")
    module_dropout: float = Field(0.0, ge=0, lt=1, description="part of the modules whose adapter rests by chance, for each picture")
    lora_plus: Annotated[float, Flags("--lora-plus")] = Field(
        1.0, gt=0, description="how many times as fast the tensors learn that begin at 0, as LoRA's up (LoRA+); 1 is off"
    )
    max_norm: float = Field(0.0, ge=0, description="longer deltas are scaled to this norm after each step; 0 leaves them alone")
