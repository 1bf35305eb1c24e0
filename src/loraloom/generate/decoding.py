"""Decoding with a VAE that is held in another dtype than the denoiser (in float32 beside a denoiser in bfloat16, say), and of numbers only.

Pipelines of diffusers give it the latents as they are, but for a VAE in float16 that they make float32 themselves; and they make black
pixels of NaN.
"""

from typing import Any

from loraloom.errors import NotFinite
from loraloom.undo import Undo


def decode_as_held(pipeline: Any, undo: Undo) -> None:
    """From now on the pipeline's VAE gets latents in its own dtype, and raises NotFinite where a number is none."""
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        return
    decode = vae.decode

    def cast(latents: Any, *arguments: Any, **options: Any) -> Any:
        _require_finite(latents, "its latents are NaN or infinite")
        decoded = decode(latents.to(vae.dtype), *arguments, **options)
        _require_finite(decoded[0], f"its latents are finite, and the VAE, in {vae.dtype}, makes NaN or infinite values of them")
        return decoded

    undo.keep(vae, "decode")
    vae.decode = cast


def _require_finite(tensor: Any, what: str) -> None:
    if not bool(tensor.isfinite().all()):
        raise NotFinite(f"a picture was not drawn: {what}")
