"""Stage 4: the decoder learns to read the denoiser's hand.

A small denoiser leaves wobbling edges and speckles in its latents that no encoder makes, and a decoder that has only met encoded
pictures draws them faithfully. Here it meets the denoiser's own one-step estimates beside the drawings they should be. The
encoder stays as it is: so do the latents, the denoiser and every LoRA that was trained on it. Half of each batch is plainly
encoded pictures of all styles, so that the styles of LoRAs keep their look.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from tools.tiny_base import autoencoder
from tools.tiny_base.captions import MAX_TOKENS
from tools.tiny_base.denoiser import Denoiser, scheduler
from torch import Tensor
from transformers import CLIPTokenizer

NOISE = (60, 450)  # timesteps: below, nothing is wrong; above, the estimate is a blur and the drawing would be a guess
PEAK = 1e-3
EMA = 0.995


@torch.no_grad()
def estimates(model: Denoiser, tokenizer: CLIPTokenizer, latents: Tensor, names: Sequence[str], seed: int) -> Tensor:
    """One-step estimates of `latents` [n, 4, 16, 16] from their noised form and their names, each at a random timestep."""
    generator = torch.Generator().manual_seed(seed)
    alphas = scheduler().alphas_cumprod
    found = []
    for first in range(0, len(names), 64):
        places = range(first, min(first + 64, len(names)))
        clean = latents[places.start : places.stop].float()
        texts = [names[place] for place in places]
        ids = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt").input_ids
        timesteps = torch.randint(*NOISE, (len(places),), generator=generator)
        signal, sigma = (value[timesteps, None, None, None] for value in (alphas.sqrt(), (1 - alphas).sqrt()))
        noisy = signal * clean + sigma * torch.randn(clean.shape, generator=generator)
        found.append(signal * noisy - sigma * model(noisy, timesteps, ids))
    return torch.cat(found)


def train(vae: AutoencoderKL, drawn: tuple[Tensor, np.ndarray], encoded: tuple[Tensor, np.ndarray], *, steps: int, batch: int = 32) -> None:
    """Train the decoder in place on (latents, pictures uint8 [n, 64, 64, 3]); half of each batch is `drawn` by the denoiser."""
    rng = np.random.default_rng(0)
    learning = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    average = [value.detach().clone() for value in learning]
    optimizer = torch.optim.AdamW(learning, lr=PEAK, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps, pct_start=0.1)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        halves = [(*pair, rng.integers(0, len(pair[0]), batch // 2)) for pair in (drawn, encoded)]
        latents = torch.cat([latents[chosen] for latents, _, chosen in halves])
        wanted = autoencoder.to_tensor(np.concatenate([pictures[chosen] for _, pictures, chosen in halves]))
        found = vae.decode(latents).sample
        loss: Tensor = autoencoder.reconstruction_loss(found, wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        torch._foreach_lerp_(average, learning, 1 - min(EMA, (step + 1) / (step + 10)))
        if step % 50 == 0:
            l1 = [F.l1_loss(found[half], wanted[half]).item() * 127.5 for half in (slice(batch // 2), slice(batch // 2, None))]
            seconds = time.perf_counter() - started
            print(f"decoder {step}/{steps}  L1 of 255: drawn {l1[0]:.2f}, encoded {l1[1]:.2f}  {seconds:.0f} s", flush=True)
    with torch.no_grad():
        torch._foreach_copy_(learning, average)


def run(work: Path, steps: int, latents: Tensor, names: Sequence[str], drawings: np.ndarray, others: np.ndarray) -> None:
    """`latents` and `drawings` [concepts, variants, ...] of the taught concepts, `others` the autoencoder's pictures. Replaces work/vae."""
    from tools.tiny_base import denoiser

    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    model = denoiser.load(work / "denoiser", tokenizer)
    vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    variants = min(3, latents.shape[1])
    drawn = torch.cat([estimates(model, tokenizer, latents[:, 0 if turn < 2 else variants - 1], names, turn) for turn in range(3)])
    pictures = np.concatenate([drawings[:, 0 if turn < 2 else variants - 1] for turn in range(3)])
    train(vae, (drawn, pictures), (autoencoder.encode(vae, others), others), steps=steps)
    vae.save_pretrained(work / "vae")
