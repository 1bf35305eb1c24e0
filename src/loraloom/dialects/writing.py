"""LoraFile -> file, in one dialect."""

from pathlib import Path
from typing import TYPE_CHECKING

from loraloom import tensorfile
from loraloom.bases.detect import by_family
from loraloom.dialects.matching import by_name
from loraloom.dialects.metadata import stamped
from loraloom.errors import BadTensor, DialectCannotHold
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile

if TYPE_CHECKING:
    from torch import Tensor


def write(file: LoraFile, path: str | Path, dialect: str = "kohya", *, dtype: "torch.dtype | None" = None) -> Path:
    """Write atomically and verified: what is on the disk is read back and compared before it gets its name.

    `dtype` casts the tensors (float16 by default), alpha stays float32. Hashes are added to the metadata. Raises
    DialectCannotHold, BadTensor for values that the dtype cannot hold, WriteFailed.
    """
    chosen, base = by_name(dialect), by_family(file.base)
    if base is None:
        raise DialectCannotHold(f"{path}: the family {file.base!r} is unknown, so its modules cannot be spelled")
    tensors: dict[str, Tensor] = {}
    for target, adapter in file.adapters.items():
        if target not in base.by_target:
            raise DialectCannotHold(f"{path}: {base.title} has no module {target}")
        for key, tensor in chosen.write_tensors(adapter, base.by_target[target], base).items():
            tensors[key] = _cast(key, tensor, dtype or torch.float16)
    extra = {**chosen.write_metadata(file.adapters), "sshs_model_hash": tensorfile.content_hash(tensors)}
    return tensorfile.write(path, tensors, stamped(file.metadata, base, extra))


def _cast(key: str, tensor: "Tensor", dtype: "torch.dtype") -> "Tensor":
    """Numbers (alpha) are 0-dimensional and stay float32; places and sizes stay whole numbers."""
    if not tensor.is_floating_point():
        return tensor.detach().to("cpu")
    cast = tensor.detach().to("cpu", torch.float32 if tensor.ndim == 0 else dtype)
    if not bool(torch.isfinite(cast).all()):
        raise BadTensor(f"{key}: values up to {float(tensor.abs().max()):.3g} do not fit {dtype}; write float32 or bfloat16")
    return cast
