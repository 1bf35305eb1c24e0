"""Which family a base model on the disk is of, by the names and shapes in its headers: no torch, no weights are read."""

from collections.abc import Mapping
from pathlib import Path

from loraloom.bases import BASES
from loraloom.bases.base import Base
from loraloom.bases.singlefile import UNET
from loraloom.errors import BaseError, suggestion
from loraloom.home import expanded
from loraloom.tensorfile import Header

Shape = tuple[int, ...]


def identify(source: str) -> Base:
    """The family of `source`: its name ("sdxl", "SD 1.x"), a folder in diffusers' layout, or a checkpoint file.

    Raises BaseError where it is none that has a table here, FileError for a damaged file.
    """
    named = family(source)
    if named is not None:
        return named
    path = expanded(source)
    if not path.exists():
        families = [base.family for base in BASES]
        known = ", ".join(families)
        raise BaseError(
            f"{source}: no such folder, file or family{suggestion(source, families) or f'; the families with a table are {known}'}"
        )
    found = recognised(path)
    if found is None:
        titles = ", ".join(base.title for base in BASES)
        raise BaseError(f"{source}: this base has the modules of no family that has a table here ({titles}); name the family instead")
    return found


def family(name: str) -> Base | None:
    """The family of this name: "sdxl", "SD 1.x"."""
    return next((base for base in BASES if name.lower() in (base.family, base.title.lower())), None)


def recognised(path: Path) -> Base | None:
    """The family of a folder or a file, or None. Raises FileError for a damaged file."""
    if path.is_dir():
        return by_unet(
            {key: shape for file in sorted((path / "unet").glob("*.safetensors")) for key, shape in Header.read(file).shapes.items()}
        )
    return by_unet(Header.read(path).shapes)


def by_unet(shapes: Mapping[str, Shape]) -> Base | None:
    """The base whose every UNet layer is there with its shape, under diffusers' names or the original ones."""
    inner = {key.removeprefix(UNET.prefix): shape for key, shape in shapes.items() if key.startswith(UNET.prefix)} or shapes
    for base in BASES:
        layers = [layer for layer in base.layers if not layer.place.is_text]
        for names in ([layer.target.module for layer in layers], [layer.original for layer in layers]):
            if all(inner.get(f"{name}.weight") == layer.shape for name, layer in zip(names, layers, strict=True)):
                return base
    return None
