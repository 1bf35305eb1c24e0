"""nano: random weights in SD 1.x's layout, made on the fly, for everything that does not need looks."""

from loraloom.bases import singlefile
from loraloom.bases.base import Base
from loraloom.bases.clip import TextEncoder
from loraloom.bases.unet import UNet

UNET = UNet(widths=(16, 32), resnets=1, attention=(1, 0), context=24)
TEXT = TextEncoder("text_encoder", width=24, depth=2, vocabulary=514, positions=32)

NANO = Base(
    family="nano",
    title="loraloom nano 1",
    layers=(*UNET.layers(), *TEXT.layers()),
    context_width=24,
    text_widths=(24,),
    version="loraloom_nano_1",
    architecture="loraloom-nano-1",
    resolution=16,
    single_file={"unet": singlefile.UNET, "text_encoder": singlefile.CLIP},
)
