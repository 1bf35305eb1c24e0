"""SD 1.x: a UNet of four levels, cross-attention 768 wide, and CLIP ViT-L/14's text encoder."""

from loraloom.bases import singlefile
from loraloom.bases.base import Base
from loraloom.bases.clip import TextEncoder
from loraloom.bases.unet import UNet

UNET = UNet(widths=(320, 640, 1280, 1280), resnets=2, attention=(1, 1, 1, 0), context=768)
TEXT = TextEncoder("text_encoder", width=768, depth=12)

SD1 = Base(
    family="sd1",
    title="SD 1.x",
    layers=(*UNET.layers(), *TEXT.layers()),
    context_width=768,
    text_widths=(768,),
    version="sd_v1",
    architecture="stable-diffusion-v1",
    resolution=512,
    single_file={"unet": singlefile.UNET, "text_encoder": singlefile.CLIP},
)
