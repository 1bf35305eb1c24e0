"""nanov: random weights in SD 2.x's layout, made on the fly: Linear projections, and a denoiser that predicts velocity."""

from loraloom.bases.base import Base
from loraloom.bases.clip import TextEncoder
from loraloom.bases.unet import UNet

UNET = UNet(widths=(16, 32), resnets=1, attention=(1, 0), context=48, linear_projection=True)
TEXT = TextEncoder("text_encoder", width=48, depth=2, vocabulary=514, positions=32)

NANOV = Base(
    family="nanov",
    title="loraloom nanov 1",
    layers=(*UNET.layers(), *TEXT.layers()),
    context_width=48,
    text_widths=(48,),
    version="loraloom_nanov_1",
    architecture="loraloom-nanov-1",
    resolution=16,
)
