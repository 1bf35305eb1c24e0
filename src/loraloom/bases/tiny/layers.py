"""tiny: the embedded base. SD 1.x's layout at a fraction of its size; made by tools/tiny_base."""

from loraloom.bases import singlefile
from loraloom.bases.base import Base
from loraloom.bases.clip import TextEncoder
from loraloom.bases.unet import UNet

UNET = UNet(widths=(48, 96, 192), resnets=1, attention=(1, 1, 1), context=192)
TEXT = TextEncoder("text_encoder", width=192, depth=2, vocabulary=3566, positions=24)

# The version is part of both names: retraining the base makes a new family version, and its LoRAs are made anew with it.
TINY = Base(
    family="tiny",
    title="loraloom tiny 1",
    layers=(*UNET.layers(), *TEXT.layers()),
    context_width=192,
    text_widths=(192,),
    version="loraloom_tiny_1",
    architecture="loraloom-tiny-1",
    resolution=64,
    single_file={"unet": singlefile.UNET, "text_encoder": singlefile.CLIP},
)
