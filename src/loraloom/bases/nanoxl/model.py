"""Making nanoxl: random weights, seeded, under 2 MB, in diffusers' own classes for SDXL."""

import os
from typing import TYPE_CHECKING

from loraloom.bases.nano.model import autoencoder, byte_tokenizer, sampler, text_config
from loraloom.bases.nanoxl.layers import SIZE_WIDTH, TEXT, TEXT_2, UNET
from loraloom.lazy import LazyModule, torch

if TYPE_CHECKING:
    import diffusers
    import transformers
else:
    diffusers = LazyModule("diffusers")
    transformers = LazyModule("transformers")


def load(seed: int = 0) -> "diffusers.StableDiffusionXLPipeline":
    """A complete pipeline in float32 on the CPU; the same seed gives the same weights."""
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
    tokenizer, tokenizer_2 = byte_tokenizer(TEXT.positions), byte_tokenizer(TEXT_2.positions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            layers_per_block=UNET.resnets,
            block_out_channels=UNET.widths,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=tuple(depth or 1 for depth in UNET.attention),
            cross_attention_dim=UNET.context,
            use_linear_projection=UNET.linear_projection,
            addition_embed_type="text_time",
            addition_time_embed_dim=SIZE_WIDTH,
            projection_class_embeddings_input_dim=UNET.added_condition,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        text_encoder = transformers.CLIPTextModel(text_config(TEXT, tokenizer))
        text_encoder_2 = transformers.CLIPTextModelWithProjection(text_config(TEXT_2, tokenizer_2))
        vae = autoencoder()
    return diffusers.StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text_encoder.eval(),
        text_encoder_2=text_encoder_2.eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet.eval(),
        scheduler=sampler(),
        add_watermarker=False,
    )
