"""Stage 4: the trained parts as one folder in diffusers' Stable Diffusion layout, float16, inside the package; and back."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import save_file
from tools.tiny_base import denoiser
from transformers import CLIPTokenizer

TARGET = Path(__file__).parents[2] / "src" / "loraloom" / "assets" / "tiny"


def pipeline(work: Path) -> StableDiffusionPipeline:
    """The base in float32, from the averaged weights of the last save."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    model = denoiser.load(work / "denoiser", tokenizer)
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae").eval(),
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=denoiser.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(work: Path, target: Path = TARGET) -> None:
    """Write `target` anew. Old readers of CLIPTokenizer want vocab.json and merges.txt, which transformers 5 does not save."""
    shutil.rmtree(target, ignore_errors=True)
    pipeline(work).to(torch.float16).save_pretrained(target, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(work / "tokenizer" / name, target / "tokenizer" / name)
    with safe_open(work / "denoiser" / "ema.safetensors", "pt") as averaged:
        (target / "training.json").write_text(json.dumps({"denoiser_steps": int(averaged.metadata()["step"])}) + "\n", "utf-8")
    # The saved configs carry this machine's folders; the names below are all that a reader needs.
    for config in target.rglob("*config.json"):
        content = json.loads(config.read_text("utf-8"))
        content.pop("_name_or_path", None)
        config.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{target}: {size / 2**20:.1f} MiB")


def restore(work: Path, source: Path = TARGET) -> None:
    """Lay a work folder out from the shipped base, to train it further where no state of its training was kept."""
    shipped = StableDiffusionPipeline.from_pretrained(source, torch_dtype=torch.float32)
    shutil.copytree(source / "tokenizer", work / "tokenizer", dirs_exist_ok=True)
    shipped.vae.save_pretrained(work / "vae")
    model = denoiser.Denoiser(shipped.tokenizer)
    model.unet.load_state_dict(shipped.unet.state_dict())
    model.text_encoder.load_state_dict(shipped.text_encoder.state_dict())
    (work / "denoiser").mkdir(parents=True, exist_ok=True)
    (work / "denoiser" / "state.pt").unlink(missing_ok=True)
    steps = json.loads((source / "training.json").read_text("utf-8"))["denoiser_steps"]
    save_file(model.state_dict(), work / "denoiser" / "ema.safetensors", metadata={"step": str(steps)})
