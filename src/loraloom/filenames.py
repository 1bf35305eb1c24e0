"""Names of LoRA files: their ending, in any case."""

SUFFIX = ".safetensors"


def has_ending(name: str) -> bool:
    return name[-len(SUFFIX) :].lower() == SUFFIX


def stem(name: str) -> str:
    """The name without the ending, which is taken off once: `v1.safetensors.SAFETENSORS` is `v1.safetensors`."""
    return name[: -len(SUFFIX)] if has_ending(name) else name
