"""Make the embedded base: `python -m tools.tiny_base STAGE [--work build/tiny]`. The README beside this file tells the order."""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from tools.tiny_base import autoencoder, captions, decoder, denoiser, export, pictures, vocabulary
from transformers import CLIPTokenizer


def train_autoencoder(work: Path, steps: int, batch: int, peak: float) -> None:
    autoencoder.train(pictures.for_autoencoder(work), work / "vae", steps=steps, batch=batch, peak=peak)


def cache_latents(work: Path) -> None:
    """One file with the latents of every drawing, float16 [concepts, variants, 4, 16, 16]."""
    drawings = pictures.for_denoiser(work)
    vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    latents = autoencoder.encode(vae, drawings.reshape(-1, *drawings.shape[2:])).reshape(*drawings.shape[:2], 4, 16, 16)
    save_file({"latents": latents.half().contiguous()}, work / "latents.safetensors")


def train_denoiser(work: Path, steps: int, batch: int, peak: float) -> None:
    everything, _ = pictures.load(work)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    latents = load_file(work / "latents.safetensors")["latents"]
    chosen = [index for index, concept in enumerate(everything) if vocabulary.taught(concept)]
    data = denoiser.Data(latents[chosen], [everything[index] for index in chosen], tokenizer)
    denoiser.train(data, work / "denoiser", steps=steps, batch=batch, peak=peak)


def train_decoder(work: Path, steps: int) -> None:
    everything, _ = pictures.load(work)
    chosen = [index for index, concept in enumerate(everything) if vocabulary.taught(concept)]
    latents = load_file(work / "latents.safetensors")["latents"][chosen]
    names = [everything[index].name for index in chosen]
    decoder.run(work, steps, latents, names, pictures.for_denoiser(work)[chosen], pictures.for_autoencoder(work))


def train_tokenizer(work: Path) -> None:
    captions.train_tokenizer(pictures.load(work)[0], work / "tokenizer")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.tiny_base", description=__doc__)
    parser.add_argument("stage", choices=("tokenizer", "autoencoder", "latents", "denoiser", "decoder", "export", "restore"))
    parser.add_argument("--work", type=Path, default=Path("build/tiny"))
    parser.add_argument("--steps", type=int, help="autoencoder: 5000, denoiser: 5000, decoder: 350")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, help="peak learning rate; autoencoder: 2e-3, denoiser: 1e-3")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.stage == "tokenizer":
        train_tokenizer(arguments.work)
    elif arguments.stage == "autoencoder":
        train_autoencoder(arguments.work, arguments.steps or 5000, arguments.batch, arguments.rate or 2e-3)
    elif arguments.stage == "latents":
        cache_latents(arguments.work)
    elif arguments.stage == "decoder":
        train_decoder(arguments.work, arguments.steps or 350)
    elif arguments.stage == "export":
        export.export(arguments.work)
    elif arguments.stage == "restore":
        export.restore(arguments.work)
    else:
        train_denoiser(arguments.work, arguments.steps or 5000, arguments.batch, arguments.rate or 1e-3)


if __name__ == "__main__":
    main()
