"""Stage 2: the autoencoder, 64×64×3 -> 16×16×4, trained on several emoji sets so that LoRA styles can be decoded too.

Loss: L1 + L1 of image gradients at three scales + a small KL term (Kingma & Welling 2014, arXiv:1312.6114). Half of the
latents are reduced before they are decoded and must give the reduced picture (EQ-VAE, Kouzelis et al. 2025, arXiv:2502.09509):
without it the latents' fine frequencies are noise to a denoiser (their power was 7 to 27 times that of reduced drawings).
All latents carry a little noise, so that nothing that matters hides in amplitudes which a small denoiser cannot hit.
Afterwards the latents' mean and covariance are folded into the 1×1 convolutions next to the bottleneck, so that
latents have mean 0 and unit covariance and `scaling_factor` is 1.
"""

import functools
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from tools.tiny_base.speed import bfloat16_is_faster
from torch import Tensor

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 32, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 64,
    "scaling_factor": 1.0,
    "mid_block_add_attention": False,
}
KL_WEIGHT = 1e-4
REDUCED = (8, 12)  # sides of reduced latents; the others stay 16
ROUGHNESS_WEIGHT = 0.03  # on what a latent has beyond its 2×2 means, as a share of its variance
NOISE = 0.1  # of the latents' own deviation
EMA = 0.998


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 [n, h, w, 3] -> float32 [n, 3, h, w] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the pictures and of their horizontal and vertical differences at full, half and quarter size."""
    loss = F.l1_loss(found, wanted)
    for _ in range(3):
        for dim in (2, 3):
            loss = loss + F.l1_loss(found.diff(dim=dim), wanted.diff(dim=dim))
        found, wanted = F.avg_pool2d(found, 2), F.avg_pool2d(wanted, 2)
    return loss


def _augmented(pictures: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Flips and colour-channel swaps: the decoder meets colours that no emoji set has."""
    batch = pictures if rng.random() < 0.5 else pictures[:, :, ::-1]
    if rng.random() < 0.1:
        batch = batch[..., rng.permutation(3)]
    return to_tensor(np.ascontiguousarray(batch))


def _reduced(latents: Tensor, pictures: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Both at `side`/16 of their size."""
    resize = functools.partial(F.interpolate, mode="bilinear", antialias=True)
    return resize(latents, side), resize(pictures, side * pictures.shape[-1] // latents.shape[-1])


def train(pictures: np.ndarray, folder: Path, *, steps: int, batch: int = 32, peak: float = 2e-3, seed: int = 0) -> AutoencoderKL:
    """Train from scratch, or further if `folder` has one; `pictures` uint8 [n, 64, 64, 3]. Saves diffusers' folder layout and a log."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = AutoencoderKL.from_pretrained(folder) if (folder / "config.json").exists() else AutoencoderKL(**CONFIG)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.03)
    average = [value.detach().clone() for value in vae.parameters()]
    amp = bfloat16_is_faster("cpu")
    started = time.perf_counter()
    for step in range(1, steps + 1):
        wanted = _augmented(pictures[rng.integers(0, len(pictures), batch)], rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            posterior = vae.encode(wanted).latent_dist
            latents = posterior.sample()
            deviation = latents.detach().std()
            spoiled = latents + NOISE * deviation * torch.randn(latents.shape)
            if rng.random() < 0.5:
                spoiled, wanted = _reduced(spoiled, wanted, int(rng.choice(REDUCED)))
            found = vae.decode(spoiled).sample
        smooth = F.interpolate(F.avg_pool2d(latents, 2), scale_factor=2, mode="bilinear")
        roughness = F.mse_loss(latents, smooth) / deviation**2
        loss = reconstruction_loss(found.float(), wanted) + KL_WEIGHT * posterior.kl().mean() / 256 + ROUGHNESS_WEIGHT * roughness
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        torch._foreach_lerp_(average, list(vae.parameters()), 1 - min(EMA, (step + 1) / (step + 10)))
        if step % 100 == 0:
            l1 = F.l1_loss(found.float(), wanted).item()
            seconds = time.perf_counter() - started
            print(f"autoencoder {step}/{steps}  loss {loss:.4f}  L1 {l1:.4f}  roughness {roughness:.3f}  {seconds:.0f} s", flush=True)
    with torch.no_grad():
        torch._foreach_copy_(list(vae.parameters()), average)
    vae.eval()
    _fold_whitening(vae, pictures)
    vae.save_pretrained(folder)
    error = mean_error(vae, pictures[:: max(1, len(pictures) // 512)])
    (folder / "log.json").write_text(json.dumps({"steps": steps, "batch": batch, "mean_absolute_error_255": error}))
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray, batch: int = 128) -> Tensor:
    """Posterior means, float32 [n, 4, 16, 16]."""
    return torch.cat([vae.encode(to_tensor(part)).latent_dist.mean for part in np.array_split(pictures, max(1, len(pictures) // batch))])


@torch.no_grad()
def mean_error(vae: AutoencoderKL, pictures: np.ndarray) -> float:
    """Mean absolute error of decode(encode(x)), in steps of 1/255."""
    return float((vae.decode(encode(vae, pictures)).sample - to_tensor(pictures)).abs().mean() * 127.5)


@torch.no_grad()
def _fold_whitening(vae: AutoencoderKL, pictures: np.ndarray) -> None:
    """z' = A (z - m): A and m go into quant_conv, their inverses into post_quant_conv."""
    latents = encode(vae, pictures[:: max(1, len(pictures) // 2048)]).transpose(0, 1).flatten(1)
    mean = latents.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(latents))
    whiten = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    inverse = torch.linalg.inv(whiten)
    quant, post = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    quant.weight[:channels] = torch.einsum("ab,bcij->acij", whiten, quant.weight[:channels])
    quant.bias[:channels] = whiten @ (quant.bias[:channels] - mean)
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight.copy_(torch.einsum("ab,bcij->acij", post.weight[:, :, 0, 0], inverse[:, :, None, None]))
