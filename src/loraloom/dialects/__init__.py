"""Names in files: reading any dialect, writing one. A dialect is one file here and one name in `DIALECTS`."""

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom import tensorfile
from loraloom.adapters import adapter_type
from loraloom.bases import BASES, Base, Target
from loraloom.bases.detect import Detection, by_family, detect
from loraloom.dialects.base import Dialect, split
from loraloom.dialects.kohya import Kohya
from loraloom.dialects.metadata import hashes, stamped
from loraloom.dialects.peft import Peft
from loraloom.errors import BadTensor, DialectCannotHold, LimitExceeded, NothingApplied, UnknownFormat, WrongBase, suggestion
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header

if TYPE_CHECKING:
    from torch import Tensor

DIALECTS: tuple[Dialect, ...] = (Kohya(), Peft())
MAX_RANK = 4096


def read(path: str | Path, base: Base | None = None, *, force: bool = False) -> LoraFile:
    """Every adapter of a file, in float dtypes as stored, alpha included; keys that fit nothing are in `unknown` with the reason.

    Without `base` the file's own family is used. Raises FileError subclasses for a file that cannot be used, WrongBase if
    it was made for another family than `base` (not with `force`), NothingApplied if no key fits.
    """
    header = Header.read(path)
    found = detect(header.shapes, header.metadata)
    base = _choose(header.path, found, base, force=force)
    dialect, groups, unknown = match(header, base)
    adapters = {}
    with tensorfile.open_tensors(header) as tensors:
        for target, keys in groups.items():
            group = {suffix: _checked(header.path, key, tensors[key]) for key, suffix in keys.items()}
            kind = adapter_type({suffix: header.entries[key].shape for key, suffix in keys.items()})
            assert kind is not None  # match() keeps only groups with a type
            adapters[target] = kind.from_tensors(dialect.fix(group, target, header.metadata))
    return LoraFile(adapters, dict(header.metadata), base.family, tuple(unknown), dialect.name, header.path)


def match(header: Header, base: Base) -> tuple[Dialect, Mapping[Target, Mapping[str, str]], list[str]]:
    """Which dialect names the most tensors, {target: {key: our suffix}} for all that fit, and "key: reason" for the rest."""
    candidates = [(dialect, _group(header, base, dialect)) for dialect in DIALECTS]
    dialect, grouped = max(candidates, key=lambda item: sum(map(len, item[1].values())))
    unknown = [f"{key}: {base.title} has no module or suffix of this name" for key in _left(header, grouped)]
    fitting = {}
    for target, keys in grouped.items():
        reason = _misfit(header, base, target, keys)
        if reason:
            unknown += [f"{key}: {reason}" for key in keys]
        else:
            fitting[target] = keys
    if not fitting:
        raise _nothing(header, base, unknown)
    return dialect, fitting, unknown


def _group(header: Header, base: Base, dialect: Dialect) -> dict[Target, dict[str, str]]:
    book, suffixes = dialect.book(base), dialect.known_suffixes()
    groups: defaultdict[Target, dict[str, str]] = defaultdict(dict)
    for key in header.entries:
        found = split(key, book, suffixes)
        if found is not None:
            groups[found[0]][key] = found[1]
    return dict(groups)


def _left(header: Header, grouped: Mapping[Target, Mapping[str, str]]) -> list[str]:
    used = {key for keys in grouped.values() for key in keys}
    return [key for key in header.entries if key not in used]


def _misfit(header: Header, base: Base, target: Target, keys: Mapping[str, str]) -> str | None:
    """Why these tensors cannot be this target's adapter, or None."""
    shapes = {suffix: header.entries[key].shape for key, suffix in keys.items()}
    if len(shapes) < len(keys):
        return f"{target} is named more than once"
    kind = adapter_type(shapes)
    if kind is None:
        return "no adapter type has the tensors " + ", ".join(f"{suffix} {list(shape)}" for suffix, shape in sorted(shapes.items()))
    wanted = base.by_target[target].shape
    try:
        given = kind.delta_shape(shapes, wanted)
    except (IndexError, KeyError):
        return f"shapes {sorted(shapes.values())} are not those of {kind.name}"
    return None if given == wanted else f"the adapter gives {list(given)}, {target} of {base.title} has {list(wanted)}"


def _choose(path: Path, found: Detection, base: Base | None, *, force: bool) -> Base:
    own = by_family(found.family) if found.family else None
    if base is None:
        if own is None:
            known = ", ".join(item.title for item in BASES)
            raise UnknownFormat(f"{path.name}: made for {found.title}{_because(found)}, which is none of {known}")
        return own
    if found.confident and found.title != base.title and not force:
        raise WrongBase(
            f"{path.name} was made for {found.title}{_because(found)}; the base is {base.title}. Use a LoRA for {base.title}, or another --base"
        )
    return base


def _because(found: Detection) -> str:
    return f" ({'; '.join(found.evidence)})" if found.evidence else ""


def _nothing(header: Header, base: Base, unknown: list[str]) -> NothingApplied:
    first = "; ".join(unknown[:2]) or "the file has no tensors"
    return NothingApplied(f"{header.path.name}: none of its {len(header.entries)} tensors fits {base.title}: {first}")


def _checked(path: Path, key: str, tensor: "Tensor") -> "Tensor":
    """Finite and of a dtype and size that an adapter has; integer scalars (alpha) become float."""
    if max(tensor.shape[:1], default=0) > MAX_RANK and key.endswith(("lora_down.weight", "lora_A.weight")):
        raise LimitExceeded(f"{path.name}: {key}: rank {tensor.shape[0]}, the limit is {MAX_RANK}")
    if not tensor.is_floating_point():
        if tensor.numel() != 1:
            raise BadTensor(f"{path.name}: {key}: {tensor.dtype} where a floating-point tensor is expected")
        return tensor.float()
    if not math.isfinite(float(tensor.float().abs().max())) if tensor.numel() else False:
        raise BadTensor(
            f"{path.name}: {key} holds NaN or infinite values; the training that made it went wrong, retrain or use an earlier epoch"
        )
    return tensor


def by_name(name: str) -> Dialect:
    for dialect in DIALECTS:
        if dialect.name == name:
            return dialect
    known = [dialect.name for dialect in DIALECTS]
    hint = suggestion(name, known) or f"; known are {', '.join(known)}"
    raise UnknownFormat(f"no dialect named {name!r}{hint}")


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
        for key, tensor in chosen.write_tensors(adapter, base.by_target[target]).items():
            tensors[key] = _cast(key, tensor, dtype or torch.float16)
    extra = chosen.write_metadata(file.adapters)
    return tensorfile.write(path, tensors, stamped({**file.metadata, **extra}, base, hashes(tensors)))


def _cast(key: str, tensor: "Tensor", dtype: "torch.dtype") -> "Tensor":
    if tensor.ndim == 0:
        return tensor.detach().float().clone()
    cast = tensor.detach().to("cpu", dtype)
    if not bool(torch.isfinite(cast).all()):
        raise BadTensor(f"{key}: values up to {float(tensor.abs().max()):.3g} do not fit {dtype}; write float32 or bfloat16")
    return cast


__all__ = ["DIALECTS", "Dialect", "by_name", "detect", "match", "read", "write"]
