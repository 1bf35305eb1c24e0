"""How pictures become samples: size, crop, buckets, masks, regularisation."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field

from loraloom.train.config.option import Flags, MayBePath, several

Crop = Literal["center", "random"]


class PictureFields(BaseModel):
    panel: ClassVar[str] = "Pictures"  # of the command's help

    subfolders: bool = Field(False, description="read every folder below too, however it is called")
    resolution: int | None = Field(None, ge=8, le=4096, description="pixels a side [default: the base's]")
    crop: Crop = Field("center", description="what is kept of a picture that does not fit: center, or random at each step")
    flip: bool = Field(False, description="mirror every second picture by chance")
    buckets: bool = Field(False, description="keep the shape of pictures: each goes to the nearest of a few shapes of about the same area")
    bucket_step: int | None = Field(
        None, ge=1, le=512, description="sides of buckets are multiples of this [default: 64; 8 below 512 pixels]"
    )
    bucket_min: int | None = Field(None, ge=1, le=8192, description="shortest side of a bucket [default: half the resolution]")
    bucket_max: int | None = Field(None, ge=1, le=8192, description="longest side of a bucket [default: twice the resolution]")
    no_upscale: bool = Field(False, description="leave pictures that are smaller than their bucket at their own size")
    masks: Annotated[str, MayBePath()] = Field(
        "",
        description="where the loss counts: alpha (transparency), beside (cat.mask.png beside cat.png), or a folder of such masks",
    )
    mask_background: float = Field(0.0, ge=0, le=1, description="how much a place counts where its mask is black")
    regularization: Annotated[tuple[Path, ...], BeforeValidator(several), Flags("--regularization", "--reg")] = Field(
        (), description="folder with pictures of what must stay as it is, without the trigger; as many of them are trained as of yours"
    )
    regularization_weight: float = Field(1.0, ge=0, le=100, description="how much the loss of a regularisation picture counts")
    cache: Annotated[str, MayBePath(new=True)] = Field("", description="folder that keeps encoded pictures and captions for the next run")
