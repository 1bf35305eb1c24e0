"""LoraFile -> file, in one dialect."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom import tensorfile
from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.bases.detect import by_family
from loraloom.dialects import folder
from loraloom.dialects.base import Dialect
from loraloom.dialects.matching import DIALECTS, by_name
from loraloom.dialects.metadata import stamped
from loraloom.dialects.peft_folder import PeftFolder
from loraloom.errors import BadTensor, DialectCannotHold
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile

if TYPE_CHECKING:
    from torch import Tensor


def write(file: LoraFile, path: str | Path, dialect: str = "kohya", *, dtype: "torch.dtype | None" = None) -> Path:
    """Write atomically and verified: what is on the disk is read back and compared before it gets its name.

    `dtype` casts the tensors (float16 by default), alpha stays float32. Hashes are added to the metadata. The dialect `peft-folder`
    makes a folder of this name. Raises DialectCannotHold, BadTensor for values that the dtype cannot hold, WriteFailed.
    """
    chosen, base = by_name(dialect), by_family(file.base)
    if not chosen.writes:
        known = ", ".join(each.name for each in DIALECTS if each.writes)
        raise DialectCannotHold(f"{path}: {chosen.title} naming is only read; those that are written are {known}", fields=("dialect",))
    if base is None:
        raise DialectCannotHold(f"{path}: the family {file.base!r} is unknown, so its modules cannot be spelled")
    for target in file.adapters:
        if target not in base.by_target:
            raise DialectCannotHold(f"{path}: {base.title} has no module {target}")
    if isinstance(chosen, PeftFolder):
        return folder.write(Path(path), _by_component(chosen, file, base, dtype or torch.float16))
    tensors, metadata = _one(chosen, file, file.adapters, base, dtype or torch.float16)
    return tensorfile.write(path, tensors, metadata)


def refuse_unwritable(file: LoraFile, dialect: str) -> None:
    """Raises what `write` would raise for these adapters in this dialect, before any work is done for a file."""
    chosen, base = by_name(dialect), by_family(file.base)
    if base is None:
        raise DialectCannotHold(f"the family {file.base!r} is unknown, so its modules cannot be spelled")
    spelled(chosen, file.adapters, base)


def spelled(dialect: Dialect, adapters: Mapping[Target, Adapter], base: Base) -> "dict[str, Tensor]":
    """The adapters' tensors under the dialect's names, before they are cast; raises DialectCannotHold."""
    for target, adapter in adapters.items():
        if adapter.unwritable:
            raise DialectCannotHold(f"{target}: {adapter.name} has {adapter.unwritable}")
    return {
        key: tensor
        for target, adapter in adapters.items()
        for key, tensor in dialect.write_tensors(adapter, base.by_target[target], base).items()
    }


def _one(
    dialect: Dialect, file: LoraFile, adapters: Mapping[Target, Adapter], base: Base, dtype: "torch.dtype"
) -> "tuple[dict[str, Tensor], dict[str, str]]":
    named = {**spelled(dialect, adapters, base), **dialect.write_embeddings(file.embeddings, base)}
    tensors = {key: _cast(key, tensor, dtype) for key, tensor in named.items()}
    extra = {**dialect.write_metadata(adapters, base), "sshs_model_hash": tensorfile.content_hash(tensors)}
    return tensors, stamped(file.metadata, adapters, base, extra)


def _by_component(dialect: PeftFolder, file: LoraFile, base: Base, dtype: "torch.dtype") -> dict[str, folder.Written]:
    found = {}
    for component in dict.fromkeys(target.component for target in file.adapters):
        adapters = {target: adapter for target, adapter in file.adapters.items() if target.component == component}
        config = dialect.config(adapters, base)
        found[component] = folder.Written(*_one(dialect, file, adapters, base, dtype), config)
    return found


def _cast(key: str, tensor: "Tensor", dtype: "torch.dtype") -> "Tensor":
    """Numbers (alpha) are 0-dimensional and stay float32; places and sizes are whole numbers and stay that."""
    if not tensor.dtype.is_floating_point:
        return tensor.detach().cpu()
    cast = tensor.detach().to("cpu", torch.float32 if tensor.ndim == 0 else dtype)
    if not bool(torch.isfinite(cast).all()):
        raise BadTensor(f"{key}: values up to {float(tensor.abs().max()):.3g} do not fit {dtype}; write float32 or bfloat16")
    return cast
