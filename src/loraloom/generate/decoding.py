"""Decoding with a VAE that is held in another dtype than the denoiser: in float32 beside a denoiser in bfloat16, say.

Pipelines of diffusers give it the latents as they are, but for a VAE in float16 that they make float32 themselves.
"""

from typing import Any

from loraloom.undo import Undo


def decode_as_held(pipeline: Any, undo: Undo) -> None:
    """From now on the pipeline's VAE gets latents in its own dtype."""
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        return
    decode = vae.decode

    def cast(latents: Any, *arguments: Any, **options: Any) -> Any:
        return decode(latents.to(vae.dtype), *arguments, **options)

    undo.keep(vae, "decode")
    vae.decode = cast
