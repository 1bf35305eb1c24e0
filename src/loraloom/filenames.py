"""Names of LoRA files: their ending, in any case; and names as text."""

import os

SUFFIX = ".safetensors"


def has_ending(name: str) -> bool:
    return name[-len(SUFFIX) :].lower() == SUFFIX


def stem(name: str) -> str:
    """The name without the ending, which is taken off once: `v1.safetensors.SAFETENSORS` is `v1.safetensors`."""
    return name[: -len(SUFFIX)] if has_ending(name) else name


def shown(name: str) -> str:
    """A name that can be shown and stored: bytes that are no text become �."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "replace")
