"""A pipeline that the native engine does not know: Stable Diffusion 3's layout, random weights, and LoRA files for it."""

from pathlib import Path

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from loraloom.bases.nano.model import load

RANK, WIDTH = 4, 16


def load_sd3(seed: int = 0) -> diffusers.StableDiffusion3Pipeline:
    """float32, on the CPU, under 1 MB; draws 16×16 pixels."""
    torch.manual_seed(seed)
    tokenizer = load().tokenizer
    config = transformers.CLIPTextConfig(
        vocab_size=514,
        hidden_size=WIDTH,
        intermediate_size=32,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=2 * WIDTH,
        ).eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            norm_num_groups=4,
            latent_channels=4,
            sample_size=16,
            scaling_factor=1.0,
            shift_factor=0.0,
        ).eval(),
        text_encoder=transformers.CLIPTextModelWithProjection(config).eval(),
        tokenizer=tokenizer,
        text_encoder_2=transformers.CLIPTextModelWithProjection(config).eval(),
        tokenizer_2=tokenizer,
        text_encoder_3=transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=514, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
        ).eval(),
        tokenizer_3=tokenizer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def lora_tensors(pipeline: diffusers.DiffusionPipeline, seed: int = 1, *, text: bool = True) -> dict[str, torch.Tensor]:
    """Random LoRA on the attention of the transformer and, with `text`, on the first text encoder; diffusers' names."""
    generator = torch.Generator().manual_seed(seed)
    parts = {"transformer": pipeline.transformer} | ({"text_encoder": pipeline.text_encoder} if text else {})
    found = {}
    for component, part in parts.items():
        for name, module in part.named_modules():
            if isinstance(module, torch.nn.Linear) and (".attn.to_" in name or name.endswith("self_attn.q_proj")):
                out, columns = module.weight.shape
                found[f"{component}.{name}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator) / columns**0.5
                found[f"{component}.{name}.lora_B.weight"] = torch.randn(out, RANK, generator=generator)
    return found


def write_lora(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})
    return path
