"""nanoxl: random weights in SDXL's layout, made on the fly: its blocks, its two text encoders, its pooled text vector."""

from loraloom.bases import singlefile
from loraloom.bases.base import Base
from loraloom.bases.clip import TextEncoder
from loraloom.bases.unet import UNet

SIZES = 6  # numbers of a picture's size and crop, which the denoiser gets beside the pooled text
SIZE_WIDTH = 8  # of each, embedded
TEXT = TextEncoder("text_encoder", width=16, depth=2, vocabulary=514, positions=32, unread=1)
TEXT_2 = TextEncoder("text_encoder_2", width=24, depth=3, vocabulary=514, positions=32, projection=20)
UNET = UNet(
    widths=(8, 16, 24),
    resnets=2,
    attention=(0, 1, 2),
    context=TEXT.width + TEXT_2.width,
    linear_projection=True,
    added_condition=TEXT_2.projection + SIZES * SIZE_WIDTH,
)

NANOXL = Base(
    family="nanoxl",
    title="loraloom nanoxl 1",
    layers=(*UNET.layers(), *TEXT.layers(), *TEXT_2.layers()),
    context_width=40,
    text_widths=(16, 24),
    version="loraloom_nanoxl_1",
    architecture="loraloom-nanoxl-1",
    resolution=16,
    single_file={
        "unet": singlefile.UNET,
        "text_encoder": singlefile.CLIP_OF_TWO,
        "text_encoder_2": singlefile.Kept(singlefile.OPENCLIP_OF_TWO, TEXT_2.openclip()),
    },
)
