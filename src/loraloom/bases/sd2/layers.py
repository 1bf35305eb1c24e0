"""SD 2.x: SD 1.x's UNet with Linear projections and cross-attention 1024 wide, and OpenCLIP ViT-H/14 without its last layer."""

from loraloom.bases import singlefile
from loraloom.bases.base import Base
from loraloom.bases.clip import TextEncoder
from loraloom.bases.unet import UNet

UNET = UNet(widths=(320, 640, 1280, 1280), resnets=2, attention=(1, 1, 1, 0), context=1024, linear_projection=True)
TEXT = TextEncoder("text_encoder", width=1024, depth=23)

SD2 = Base(
    family="sd2",
    title="SD 2.x",
    layers=(*UNET.layers(), *TEXT.layers()),
    context_width=1024,
    text_widths=(1024,),
    version="sd_v2",
    architecture="stable-diffusion-v2-512",
    resolution=512,
    single_file={"unet": singlefile.UNET, "text_encoder": singlefile.Kept(singlefile.OPENCLIP, TEXT.openclip())},
)
