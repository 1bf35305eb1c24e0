"""Making nano: random weights, seeded, under 1 MB; a picture of four steps takes a few hundredths of a second."""

import os
from typing import TYPE_CHECKING

from loraloom.bases.clip import TextEncoder
from loraloom.bases.nano.layers import TEXT, UNET
from loraloom.bases.unet import UNet
from loraloom.lazy import LazyModule, torch

if TYPE_CHECKING:
    import diffusers
    import transformers
else:
    diffusers = LazyModule("diffusers")
    transformers = LazyModule("transformers")

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def load(seed: int = 0) -> "diffusers.StableDiffusionPipeline":
    """A complete pipeline in float32 on the CPU; the same seed gives the same weights."""
    return assembled(UNET, TEXT, seed)


def assembled(numbers: UNet, text: TextEncoder, seed: int, prediction: str = "epsilon") -> "diffusers.StableDiffusionPipeline":
    """A pipeline of two levels, the outer one with attention, of these numbers."""
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            layers_per_block=numbers.resnets,
            block_out_channels=numbers.widths,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=numbers.context,
            use_linear_projection=numbers.linear_projection,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        tokenizer = byte_tokenizer(text.positions)
        text_encoder = transformers.CLIPTextModel(text_config(text, tokenizer))
        vae = autoencoder()
    return diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=sampler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def text_config(numbers: TextEncoder, tokenizer: "transformers.CLIPTokenizer") -> "transformers.CLIPTextConfig":
    """What transformers builds a text encoder of these numbers from."""
    return transformers.CLIPTextConfig(
        vocab_size=numbers.vocabulary,
        hidden_size=numbers.width,
        intermediate_size=4 * numbers.width,
        projection_dim=numbers.projection or numbers.width,
        num_hidden_layers=numbers.depth,
        num_attention_heads=2,
        max_position_embeddings=numbers.positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def autoencoder() -> "diffusers.AutoencoderKL":
    """Pictures of twice the latents' side."""
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=1.0,
    )
    return vae.eval()


def sampler(prediction: str = "epsilon") -> "diffusers.DDIMScheduler":
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return diffusers.DDIMScheduler(**noise, clip_sample=False, steps_offset=1, prediction_type=prediction)


def byte_tokenizer(length: int) -> "transformers.CLIPTokenizer":
    """Every byte is a token: any text works, none is long."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(code) for code in visible] + [chr(256 + index) for index in range(256 - len(visible))]  # GPT-2's byte alphabet
    tokens = (*alphabet, *(f"{byte}</w>" for byte in alphabet), _BEGIN, _END)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(
        vocab=vocabulary, merges=[], unk_token=_END, bos_token=_BEGIN, eos_token=_END, pad_token=_END, model_max_length=length
    )
