"""What we write into a file's metadata besides what its maker said: the names of the base, and what the dialect needs."""

from collections.abc import Mapping

from loraloom.bases import Base

PEFT_CONFIG = "lora_adapter_metadata"
_STALE = (PEFT_CONFIG, "sshs_legacy_hash", "sshs_model_hash")  # true of the file that was read, not of the one that is written


def stamped(metadata: Mapping[str, str], base: Base, extra: Mapping[str, str]) -> dict[str, str]:
    """`metadata` with the base's names, which other tools match by prefix, and `extra`."""
    return {
        **{key: value for key, value in metadata.items() if key not in _STALE},
        "ss_base_model_version": base.version,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{base.architecture}/lora",
        "modelspec.implementation": "diffusers",
        **extra,
    }
