"""The weights of a base model by target, straight from its files: nothing is loaded but the tensor that is asked for.

Read are folders in diffusers' layout, checkpoints of one file in the original layout, and UNets alone under either naming. The
names of every layer are spelled from the tables and looked up; what no layer owns is told, not guessed. It stands beside
`tensorfile`, through which every byte comes, and below everything that runs a model: to compare two checkpoints takes no pipeline.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom.bases import BASES, Base, Layer, Target
from loraloom.bases.identify import by_unet
from loraloom.bases.modelfolder import weight_files
from loraloom.bases.singlefile import Place
from loraloom.errors import BaseError, FileError
from loraloom.filenames import stem
from loraloom.tensorfile import Header, open_tensors

if TYPE_CHECKING:
    from torch import Tensor

_COUNTERS = (".position_ids",)  # whole numbers in a row: older versions of transformers stored them


@dataclass(frozen=True, eq=False)
class BaseFile:
    """A base whose weights can be looked at. `tensors` maps them by their keys, those of a folder as "unet/conv_in.weight"."""

    name: str  # without folders
    base: Base
    tensors: "Mapping[str, Tensor]" = field(repr=False)
    digest: str = ""  # `Header.sampled_hash` of its files together; empty where it was not read from files

    def weight(self, target: Target) -> "Tensor":
        """Of the layer's shape, in the dtype and the memory of the file. Raises BaseError where this file does not have it."""
        found = self.parameter(target, "weight")
        if found is None:
            raise BaseError(f"{self.name} has no weight of {target}")
        return found

    def parameter(self, target: Target, parameter: str) -> "Tensor | None":
        """`weight` or `bias` of a target, or None. Raises BaseError for another shape than the layer's, or for a quantised one."""
        place = self._places.get((target, parameter))
        if place is None:
            return None
        found = self.tensors[place.key].cpu()  # the same object, unless it is an opened base's on another device
        if not found.dtype.is_floating_point:
            raise BaseError(f"{self.name}: {place.key} is stored as {found.dtype}; the weights of a quantised model are not read")
        if place.part is not None:
            rows = len(found) // 3
            found = found[place.part * rows : (place.part + 1) * rows]
        if place.turned:
            found = found.mT
        shape = self.base.by_target[target].shape
        expected = shape if parameter == "weight" else shape[:1]
        if tuple(found.shape) != expected:
            raise BaseError(f"{self.name}: {place.key} gives {target} {list(found.shape)}, {self.base.title} has {list(expected)}")
        return found

    @cached_property
    def components(self) -> tuple[str, ...]:
        """Those of which it has anything, in the base's order."""
        return tuple(dict.fromkeys(target.component for target in self.base.by_target if (target, "weight") in self._places))

    @cached_property
    def others(self) -> tuple[str, ...]:
        """Keys that belong to no layer of the family: of the VAE, of schedules, of copies."""
        owned = {place.key for place in self._places.values()}
        return tuple(key for key in self.tensors if key not in owned and not key.endswith(_COUNTERS))

    @cached_property
    def _places(self) -> Mapping[tuple[Target, str], Place]:
        found = {}
        for layer in self.base.layers:
            for parameter in ("weight", "bias"):
                for place in _spellings(layer, self.base, parameter):
                    if place.key in self.tensors:
                        found[layer.target, parameter] = place
                        break
        return found


def _spellings(layer: Layer, base: Base, parameter: str) -> tuple[Place, ...]:
    """Every place where files keep a parameter of a layer."""
    component, module = layer.target
    names = dict.fromkeys((module, module.removeprefix("text_model.")))  # transformers 5 dropped it for some of its classes
    kept = base.single_file.get(component)
    found = [Place(f"{component}/{name}.{parameter}") for name in names]
    found += kept.places(module, layer.original, parameter) if kept else ()
    if not layer.place.is_text:
        found += [Place(f"{name}.{parameter}") for name in (module, layer.original) if name is not None]
    return tuple(found)


@contextmanager
def open_base(path: Path) -> Iterator[BaseFile]:
    """The base at `path`: a folder or a file. Its tensors are mapped: they must not be used after the `with`.

    Raises BaseError for what is no base with a table here, FileError for a damaged file and for one that changes meanwhile.
    """
    files = weight_files(path) if path.is_dir() else {"": (path,)}
    headers = {part: tuple(map(Header.read, held)) for part, held in files.items()}
    unet = {key: shape for header in headers.get("unet", headers.get("", ())) for key, shape in header.shapes.items()}
    base = by_unet(unet)
    if base is None:
        raise BaseError(f"{path}: {_instead(unet)}")
    found: dict[str, tuple[Mapping[str, Tensor], str]] = {}
    with ExitStack() as stack:
        for part, held in headers.items():
            for header in held:
                tensors = stack.enter_context(open_tensors(header))
                found |= {f"{part}/{key}" if part else key: (tensors, key) for key in tensors}
        every = [header for held in headers.values() for header in held]
        yield BaseFile(stem(path.resolve().name), base, _Mapped(found), _digest(every))
        for header in every:
            if not header.is_current():
                raise FileError(f"{header.path}: was changed while it was read; try again")


def _instead(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a file without the UNet of a known family is."""
    if any("lora_" in key for key in shapes):
        return "this is a LoRA, not a base model; in a mix it is written as <lora:name:1>"
    titles = ", ".join(base.title for base in BASES)
    return f"not a base model of a family that has a table here ({titles})"


def _digest(headers: Iterable[Header]) -> str:
    """Of one file its sampled hash, of several the hash of theirs in a row."""
    found = [header.sampled_hash() for header in headers]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


class _Mapped(Mapping[str, "Tensor"]):
    """Tensors of several files under one set of names."""

    def __init__(self, found: "Mapping[str, tuple[Mapping[str, Tensor], str]]") -> None:
        self._found = found

    def __getitem__(self, key: str) -> "Tensor":
        tensors, name = self._found[key]
        return tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
