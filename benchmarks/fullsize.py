"""Full-size base models with random weights, and random networks for them: what the benchmarks of the engine run on.

The architectures are those of the published configurations; the values are seeded noise, as time and memory do not depend on
them. A base is saved once and opened from its folder, so that its weights are mapped from a file as in real life.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from loraloom import dialects
from loraloom.adapters import LoRA
from loraloom.bases import BASES, Base
from loraloom.bases.nano.model import load as load_nano
from loraloom.errors import NotFound
from loraloom.lorafile import LoraFile

CLIP_L: Mapping[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_G: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}


@dataclass(frozen=True)
class FullSize:
    """One published architecture. `modules` is how many a kohya file with all attention layers and text encoders has."""

    family: str
    dtype: torch.dtype
    unet: Mapping[str, Any]
    text: Mapping[str, tuple[type, Mapping[str, Any]]]  # by component
    pipeline: str
    modules: int

    @property
    def base(self) -> Base:
        """Raises NotFound where this version of loraloom has no table of the family."""
        found = next((base for base in BASES if base.family == self.family), None)
        if found is None:
            raise NotFound(f"{self.family} is not among the bases of this version: {', '.join(base.family for base in BASES)}")
        return found


SD1 = FullSize(
    family="sd1",
    dtype=torch.float32,
    unet={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    text={"text_encoder": (transformers.CLIPTextModel, CLIP_L)},
    pipeline="StableDiffusionPipeline",
    modules=264,
)
SDXL = FullSize(
    family="sdxl",
    dtype=torch.bfloat16,
    unet={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    text={
        "text_encoder": (transformers.CLIPTextModel, CLIP_L),
        "text_encoder_2": (transformers.CLIPTextModelWithProjection, CLIP_G),
    },
    pipeline="StableDiffusionXLPipeline",
    modules=986,
)
FULL_SIZES = {full.family: full for full in (SD1, SDXL)}


def save_base(full: FullSize, folder: Path) -> Path:
    """The base in diffusers' layout, float32 noise cast to its dtype. VAE and tokenizer are nano's: no network touches them."""
    nano = load_nano()
    parts: dict[str, Any] = {"unet": _noise(lambda: diffusers.UNet2DConditionModel(**full.unet), full.dtype)}
    for name, (kind, numbers) in full.text.items():
        parts[name] = _noise(partial(kind, transformers.CLIPTextConfig(**numbers)), full.dtype)
        parts[name.replace("text_encoder", "tokenizer")] = nano.tokenizer
    extra = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False} if full.family == "sd1" else {}
    kind = getattr(diffusers, full.pipeline)
    kind(vae=nano.vae.to(full.dtype), scheduler=nano.scheduler, **parts, **extra).save_pretrained(folder)
    return folder


def open_base(full: FullSize, folder: Path, device: str = "cpu") -> Any:
    """The pipeline; on a CPU its weights are mapped from the folder's files."""
    pipeline = getattr(diffusers, full.pipeline).from_pretrained(folder, dtype=full.dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def save_network(
    full: FullSize,
    path: Path,
    *,
    rank: int,
    seed: int = 0,
    decay: float = 1.0,
    components: tuple[str, ...] = ("unet", "text"),
    dtype: torch.dtype = torch.float16,
) -> Path:
    """A kohya file over the attention layers of these components (by prefix), values of the size that training gives;
    from rank to rank they fall by the factor `decay`."""
    fall = decay ** torch.arange(rank)
    generator = torch.Generator().manual_seed(seed)
    adapters = {}
    for layer in full.base.layers:
        if not layer.attention or layer.kind not in ("linear", "conv") or not layer.target.component.startswith(components):
            continue
        out, *inputs = layer.shape
        points = [1] * (len(inputs) - 1)
        adapters[layer.target] = LoRA(
            down=torch.randn(rank, *inputs, generator=generator) * 0.02 * fall.reshape(rank, *[1] * len(inputs)),
            up=torch.randn(out, rank, *points, generator=generator) * 0.02,
            alpha=torch.tensor(rank / 2),
        )
    return dialects.write(LoraFile(adapters, {}, full.family), path, dtype=dtype)


def _noise(make: Callable[[], Any], dtype: torch.dtype) -> Any:
    """A module of random values, without the minutes that its own initialisation takes."""
    with torch.device("meta"):
        module = make()
    module.to_empty(device="cpu").to(dtype)
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.uniform_(-0.02, 0.02, generator=generator)
    return module.eval()
