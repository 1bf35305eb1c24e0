"""What we write into a file's metadata besides what its maker said: the names of the base, and what the dialect needs."""

from collections.abc import Mapping

from loraloom.bases import Base
from loraloom.bases.detect import detect

PEFT_CONFIG = "lora_adapter_metadata"
_STALE = (PEFT_CONFIG, "sshs_legacy_hash", "sshs_model_hash")  # true of the file that was read, not of the one that is written


def stamped(metadata: Mapping[str, str], base: Base, extra: Mapping[str, str]) -> dict[str, str]:
    """`metadata` with the base's names, which other tools match by prefix, and `extra`. Names that say the same family more
    exactly stay: `sd_v2_v` is an SD 2.x that predicts velocity."""
    names = {"ss_base_model_version": base.version, "modelspec.architecture": f"{base.architecture}/lora"}
    own = {key: metadata[key] for key in names if detect({}, {key: metadata.get(key, "")}).title == base.title}
    return {
        **{key: value for key, value in metadata.items() if key not in _STALE},
        **names,
        **own,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "diffusers",
        **extra,
    }
