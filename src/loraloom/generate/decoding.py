"""Decoding with a VAE that is held in another dtype than the denoiser: in float32 beside a denoiser in bfloat16, say.

Pipelines of diffusers give it the latents as they are, but for a VAE in float16 that they make float32 themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def decoding_as_held(pipeline: Any) -> Iterator[None]:
    """Inside, the pipeline's VAE gets latents in its own dtype."""
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        yield
        return
    before, decode = vars(vae).get("decode"), vae.decode

    def cast(latents: Any, *arguments: Any, **options: Any) -> Any:
        return decode(latents.to(vae.dtype), *arguments, **options)

    vae.decode = cast
    try:
        yield
    finally:
        del vae.decode
        if before is not None:
            vae.decode = before
