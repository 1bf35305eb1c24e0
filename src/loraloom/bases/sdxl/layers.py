"""SDXL: a UNet of three levels, the outer one without attention, and two text encoders: CLIP ViT-L/14 and OpenCLIP bigG/14."""

from loraloom.bases import singlefile
from loraloom.bases.base import Base
from loraloom.bases.clip import TextEncoder
from loraloom.bases.unet import UNet

UNET = UNet(
    widths=(320, 640, 1280), resnets=2, attention=(0, 2, 10), context=2048, linear_projection=True, added_condition=2816
)  # context: 768 + 1280; added: the pooled 1280 and six numbers of 256
TEXT = TextEncoder("text_encoder", width=768, depth=12, unread=1)
TEXT_2 = TextEncoder("text_encoder_2", width=1280, depth=32, projection=1280)

SDXL = Base(
    family="sdxl",
    title="SDXL",
    layers=(*UNET.layers(), *TEXT.layers(), *TEXT_2.layers()),
    context_width=2048,
    text_widths=(768, 1280),
    version="sdxl_base_v1-0",
    architecture="stable-diffusion-xl-v1-base",
    resolution=1024,
    single_file={
        "unet": singlefile.UNET,
        "text_encoder": singlefile.CLIP_OF_TWO,
        "text_encoder_2": singlefile.Kept(singlefile.OPENCLIP_OF_TWO, TEXT_2.openclip()),
    },
)
