"""A look at every picture before anything else is done: does it open, what is it, is it there twice? Every fault is told at once."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from loraloom.errors import DatasetError
from loraloom.train.pictures import Shape, on_white, open_layers

_NAMED = 20  # faults, of any number
_SIDE = 8  # of the small copies that are compared


@dataclass(frozen=True)
class Look:
    """What one file is."""

    size: Shape  # upright
    sha256: str  # of the file's bytes
    transparent: bool  # has a transparency channel
    frames: int  # more than one in an animation
    gradient: int  # 64 bits: is each of 8×8 places darker than its right neighbour? Krawetz 2013, "Kind of Like That" (dHash)
    colours: bytes  # the picture at 8×8 pixels, RGB


def look(path: Path) -> Look:
    """Decodes the whole picture. Raises DatasetError that names the file."""
    layers = open_layers(path)
    picture = on_white(layers)
    grey = np.asarray(picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(grey[:, :-1] < grey[:, 1:]).tobytes()
    colours = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX).tobytes()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Look(layers.size, digest, layers.mode == "RGBA", _frames(path), int.from_bytes(bits, "big"), colours)


def _frames(path: Path) -> int:
    with Image.open(path) as file:
        return int(getattr(file, "n_frames", 1))


def look_at_all(paths: Sequence[Path], done: Callable[[int], None]) -> dict[Path, Look]:
    """Every picture looked at; `done` hears how many. Raises one DatasetError that names all that cannot be used."""

    def attempt(path: Path) -> Look | DatasetError:
        try:
            return look(path)
        except DatasetError as error:
            return error

    found: dict[Path, Look] = {}
    faults: list[DatasetError] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # each holds one whole picture
        for count, (path, seen) in enumerate(zip(paths, pool.map(attempt, paths), strict=True), 1):
            if isinstance(seen, Look):
                found[path] = seen
            else:
                faults.append(seen)
            done(count)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        more = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        lines = "".join(f"\n  {fault}" for fault in faults[:_NAMED])
        raise DatasetError(f"{len(faults)} of {len(paths)} pictures cannot be used:{lines}{more}")
    return found


def same(looks: Sequence[Look]) -> list[list[int]]:
    """Indices of pictures whose files have the same bytes, in groups."""
    groups: dict[str, list[int]] = {}
    for index, seen in enumerate(looks):
        groups.setdefault(seen.sha256, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


_BITS = 4  # of 64 that may differ
_COLOUR = 8.0  # of 255: mean difference of the small copies. Flat pictures have the same gradients, whatever their colour


def alike(looks: Sequence[Look]) -> list[tuple[int, int]]:
    """Pairs that look the same, scaled or saved anew, though their bytes differ."""
    gradients = np.array([seen.gradient for seen in looks], dtype=np.uint64)
    colours = np.frombuffer(b"".join(seen.colours for seen in looks), dtype=np.uint8).reshape(len(looks), -1).astype(np.int16)
    found = []
    for first in range(len(looks) - 1):
        near = np.flatnonzero(np.bitwise_count(gradients[first + 1 :] ^ gradients[first]) <= _BITS) + first + 1
        close = [int(second) for second in near if np.abs(colours[second] - colours[first]).mean() <= _COLOUR]
        found += [(first, second) for second in close if looks[first].sha256 != looks[second].sha256]
    return found
