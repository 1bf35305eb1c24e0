"""Names of LoRA files: their ending, in any case; and paths as people type them."""

from pathlib import Path

SUFFIX = ".safetensors"


def has_ending(name: str) -> bool:
    return name[-len(SUFFIX) :].lower() == SUFFIX


def stem(name: str) -> str:
    """The name without the ending, which is taken off once: `v1.safetensors.SAFETENSORS` is `v1.safetensors`."""
    return name[: -len(SUFFIX)] if has_ending(name) else name


def expanded(path: str | Path) -> Path:
    """With the home folder in place of a `~`; as it is where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
