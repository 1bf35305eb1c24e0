"""Stage 3: the UNet and its text encoder, trained together on cached latents.

v-prediction (Salimans & Ho 2022, arXiv:2202.00512) with zero terminal SNR (Lin et al. 2023, arXiv:2305.08891), min-SNR-5
loss weights (Hang et al. 2023, arXiv:2303.09556) floored at 0.2, stratified timesteps, 10 % empty captions. The learning
rate warms up, stays, and falls over the last quarter, so that a run can be made longer before it falls.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tools.tiny_base.captions import MAX_TOKENS, caption
from tools.tiny_base.speed import bfloat16_is_faster
from tools.tiny_base.vocabulary import Concept
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTHS = (48, 96, 192)
TEXT_WIDTH = 192
EMPTY_CAPTIONS = 0.1
EMA = 0.998
AS_DRAWN = 0.9  # of the samples; the others are at a slightly different size and place


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class Denoiser(torch.nn.Module):
    """UNet and text encoder in one module, as they are trained."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=WIDTHS,
            down_block_types=("CrossAttnDownBlock2D",) * 3,
            up_block_types=("CrossAttnUpBlock2D",) * 3,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=(1, 2, 4),  # diffusers' name for the number of heads; 48 wide each: a fifth faster than 24 on a CPU
            norm_num_groups=8,
        )
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=TEXT_WIDTH,
                intermediate_size=4 * TEXT_WIDTH,
                projection_dim=TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=MAX_TOKENS,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
        velocity: Tensor = self.unet(noisy, timesteps, self.text_encoder(ids).last_hidden_state).sample
        return velocity


@dataclass(frozen=True)
class Data:
    latents: Tensor  # float16 [concepts, variants, 4, 16, 16]
    concepts: Sequence[Concept]
    tokenizer: CLIPTokenizer

    def batches(self, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(latents float32 [batch, 4, 16, 16], token ids [batch, 24]); each epoch sees every concept once."""
        rng = random.Random(seed)
        order: list[int] = []
        while True:
            while len(order) < batch:
                order += rng.sample(range(len(self.concepts)), len(self.concepts))
            chosen, order = order[:batch], order[batch:]
            texts = ["" if rng.random() < EMPTY_CAPTIONS else caption(self.concepts[index], rng) for index in chosen]
            ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt").input_ids
            variants = [0 if rng.random() < AS_DRAWN else rng.randrange(self.latents.shape[1]) for _ in chosen]
            yield self.latents[chosen, variants].float(), ids


def learning_rate(step: int, steps: int, peak: float, first: int = 1) -> float:
    """Linear warm-up over the 200 steps from `first` on, flat, linear to 2 % of the peak over the last quarter of all steps."""
    return peak * min(1.0, (step - first + 1) / 200, 0.02 + 0.98 * max(0.0, (steps - step) / (0.25 * steps)))


def train(data: Data, folder: Path, *, steps: int, batch: int, peak: float, seed: int = 0, device: str = "cpu") -> Denoiser:
    """Train to `steps`, resuming from `folder` if a state is there; `ema.safetensors` is the model to use."""
    torch.manual_seed(seed)
    model = Denoiser(data.tokenizer).to(device)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    compiled: Callable[[Tensor, Tensor, Tensor], Tensor] = model
    amp = bfloat16_is_faster(device)
    if amp:
        # On a CPU the plain attention is a third faster in bfloat16 than scaled_dot_product_attention, and compiling
        # gains as much again (93, 119, 164 samples/s at batch 64 on two cores).
        model.unet.set_attn_processor(AttnProcessor())
        compiled = torch.compile(model)
    else:
        # In float32 compiling takes four minutes and gains nothing (24 to 32 samples/s at batch 32 on two cores with AVX2;
        # 32 without, 36 with channels last).
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    first = _resume(folder, model, average, optimizer) + 1
    alphas = scheduler().alphas_cumprod.to(device)
    snr = alphas / (1 - alphas)
    weights = (snr.clamp(max=5) / (snr + 1)).clamp(min=0.2)
    batches = data.batches(batch, seed=seed * 1_000_003 + first)
    started, seen, recent = time.perf_counter(), 0, []
    for step in range(first, steps + 1):
        clean, ids = (part.to(device) for part in next(batches))
        timesteps = ((torch.arange(batch) + torch.rand(batch)) * (1000 / batch)).long().to(device)
        noise = torch.randn(clean.shape).to(device)
        signal, sigma = (value[timesteps, None, None, None] for value in (alphas.sqrt(), (1 - alphas).sqrt()))
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            found = compiled(signal * clean + sigma * noise, timesteps, ids)
        error = (found.float() - (signal * noise - sigma * clean)).square().mean((1, 2, 3))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, first)
        optimizer.zero_grad(set_to_none=True)
        (error * weights[timesteps]).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(EMA, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.values()), list(model.state_dict().values()), 1 - decay)
        recent.append(float(error.mean().detach()))
        seen += batch
        if step % 100 == 0:
            rate = seen / (time.perf_counter() - started)
            print(f"denoiser {step}/{steps}  v-loss {np.mean(recent):.4f}  {rate:.0f} samples/s  {step * batch} samples", flush=True)
            recent.clear()
        if step % 500 == 0 or step == steps:
            _save(folder, step, model, average, optimizer)
    model.load_state_dict(average)
    return model.eval()


def _save(folder: Path, step: int, model: Denoiser, average: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(average, folder / "ema.safetensors", metadata={"step": str(step)})
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "state.partial")
    (folder / "state.partial").replace(folder / "state.pt")


def _resume(folder: Path, model: Denoiser, average: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Read the last save and return its step; with the averaged weights alone the optimizer starts anew."""
    if not (folder / "ema.safetensors").exists():
        return 0
    for name, value in load_file(folder / "ema.safetensors").items():
        average[name].copy_(value)
    if not (folder / "state.pt").exists():
        model.load_state_dict(average)
        with safe_open(folder / "ema.safetensors", "pt") as file:
            return int(file.metadata()["step"])
    state = torch.load(folder / "state.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def load(folder: Path, tokenizer: CLIPTokenizer) -> Denoiser:
    """The averaged model of the last save."""
    model = Denoiser(tokenizer)
    model.load_state_dict(load_file(folder / "ema.safetensors"))
    return model.eval()
