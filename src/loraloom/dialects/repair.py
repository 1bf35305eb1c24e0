"""A copy of a network that can be read: without the modules whose values nobody can use, each named, and with metadata that is text."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from loraloom.bases import Base
from loraloom.bases.detect import by_family, detect
from loraloom.dialects import folder
from loraloom.dialects.matching import Match, match
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.errors import BadTensor
from loraloom.rewrite import rewrite
from loraloom.tensorfile import Header, open_tensors, require_finite

_WHY = "holds NaN, infinite values or values that float32 cannot hold"


class Repaired(NamedTuple):
    path: Path  # of the copy, there as long as the context is
    told: tuple[str, ...]  # what was changed, each a sentence


@contextmanager
def repaired(source: Path, base: Base | None) -> Iterator[Repaired]:
    """The copy lies in a folder that goes away. A network whose base is not known is left as it is: which tensors are a module's is not
    known either. Raises what `match` raises, BadTensor where nothing would be left.
    """
    parts = folder.opened(source)
    found = detect({key: shape for part in parts for key, shape in part.shapes().items()}, parts[0].header.metadata)
    known = base or (by_family(found.family) if found.family else None)
    if known is None:
        yield Repaired(source, ())
        return
    with tempfile.TemporaryDirectory(prefix="loraloom-") as place:
        told: list[str] = []
        copies = [_copied(part, known, source, Path(place), told) for part in parts]
        yield Repaired(copies[0] if len(copies) == 1 else Path(place), tuple(told))


def _copied(part: folder.Part, base: Base, source: Path, place: Path, told: list[str]) -> Path:
    """The sound part of one file; one of PEFT's lies beside its config, in a folder that names its component."""
    header, matched = part.header, match(part.header, base, part.component)
    broken = _broken(header)
    left_out = {target: keys for target, keys in matched.groups.items() if not keys.keys().isdisjoint(broken)}
    if left_out and len(left_out) == len(matched.groups):
        raise BadTensor(f"{source.name}: every module of it {_WHY}, so nothing would be left; retrain, or use an earlier epoch")
    told += _sentences(header, matched, broken)
    gone = {*broken, *(key for keys in left_out.values() for key in keys)}
    target = place / source.name
    if part.component is not None:
        target = place / part.component / folder.WEIGHTS
        target.parent.mkdir()
        target.with_name(folder.CONFIG).write_text(header.metadata.get(PEFT_CONFIG, "{}"), encoding="utf-8")
    return rewrite(header, target, header.metadata, [key for key in header.entries if key not in gone])


def _broken(header: Header) -> Collection[str]:
    """The tensors that `load_tensors` refuses."""
    found = []
    with open_tensors(header) as tensors:
        for key, tensor in tensors.items():
            try:
                require_finite(header.path, key, tensor)
            except BadTensor:
                found.append(key)
    return found


def _sentences(header: Header, matched: Match, broken: Collection[str]) -> Iterator[str]:
    owners = {key: target for target, keys in matched.groups.items() for key in keys}
    by_owner: dict[str, str] = {}
    for key in broken:
        by_owner.setdefault(str(owners.get(key, key)), key)
    yield from (f"{owner}: left out, as {key} {_WHY}" for owner, key in by_owner.items())
    yield from (f"metadata, {key[:80]}: was no text, and is its JSON now" for key in header.mended)
