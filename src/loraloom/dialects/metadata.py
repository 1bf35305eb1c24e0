"""What we write into a file's metadata besides what its maker said: hashes and the names of the base."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loraloom.bases import Base
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def content_hash(tensors: "Mapping[str, Tensor]") -> str:
    """sha256 (hex) of the tensors' bytes in the order in which `tensorfile.write` stores them: `sshs_model_hash`."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hashes(tensors: "Mapping[str, Tensor]") -> Mapping[str, str]:
    return {"sshs_model_hash": content_hash(tensors)}


def stamped(metadata: Mapping[str, str], base: Base, extra: Mapping[str, str]) -> dict[str, str]:
    """`metadata` with the base's names, which other tools match by prefix, and `extra`."""
    return {
        **metadata,
        "ss_base_model_version": base.version,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{base.architecture}/lora",
        "modelspec.implementation": "diffusers",
        **extra,
    }
