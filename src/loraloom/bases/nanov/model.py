"""Making nanov: nano's pipeline with SD 2.x's layout."""

from typing import TYPE_CHECKING

from loraloom.bases.nano.model import assembled
from loraloom.bases.nanov.layers import TEXT, UNET

if TYPE_CHECKING:
    import diffusers


def load(seed: int = 0) -> "diffusers.StableDiffusionPipeline":
    """A complete pipeline in float32 on the CPU; the same seed gives the same weights."""
    return assembled(UNET, TEXT, seed, "v_prediction")
