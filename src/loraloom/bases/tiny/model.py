"""Loading tiny from the package."""

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom.errors import BaseError
from loraloom.lazy import LazyModule, torch

if TYPE_CHECKING:
    import diffusers
else:
    diffusers = LazyModule("diffusers")


def folder() -> Path:
    """The embedded base as a folder in diffusers' layout; `StableDiffusionPipeline.from_pretrained` takes it as it is."""
    return Path(str(files("loraloom"))) / "assets" / "tiny"


def load() -> "diffusers.StableDiffusionPipeline":
    """The pipeline in float32, on the CPU. The files are float16: half the size, and nothing that a picture shows is lost."""
    os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
    if not (folder() / "model_index.json").exists():
        raise BaseError(f"{folder()}: the embedded base is missing; install loraloom again")
    return diffusers.StableDiffusionPipeline.from_pretrained(folder(), dtype=torch.float32, local_files_only=True)
