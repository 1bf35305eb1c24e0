"""One file of the library in another form: edited, resized."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from loraloom import dialects
from loraloom.bases.detect import by_family
from loraloom.bases.identify import identify
from loraloom.catalogue.sidecar import read_sidecar
from loraloom.combine import ResizeRequest
from loraloom.dialects.fields import TRIGGER
from loraloom.editing import Edited
from loraloom.editing import edit as edit_file
from loraloom.errors import BaseError, WriteFailed
from loraloom.extracting import Extracted
from loraloom.extracting import resize as resize_file
from loraloom.session.kept import Kept
from loraloom.settings import packaged


def edit(
    path: Path, output: Path | None, *, changes: Mapping[str, str | None] | None, only: Sequence[str], base: str | None, overwrite: bool
) -> Edited:
    """The file with its changes. Words beside a file, which would hide new ones within, are told."""
    if output is None and path.resolve().is_relative_to(packaged().resolve()):
        raise WriteFailed(f"{path.stem} came with loraloom and is not changed in its place; give a second name for a copy")
    found = edit_file(path, output, changes=changes, only=only, base=identify(base) if base else None, overwrite=overwrite)
    beside = read_sidecar(found.path).words if changes and changes.get(TRIGGER) else ()
    if beside:
        told = f"notes beside the file have trigger words of their own ({', '.join(beside)[:200]}), which count before the file's"
        return replace(found, warnings=(*found.warnings, told))
    return found


def resize(kept: Kept, name: str | Path, request: ResizeRequest, output: Path, *, overwrite: bool) -> Extracted:
    """The file at the size of the request, with the weights of the base that it names."""
    with kept.bases.asked(request.base) as held:
        file = dialects.read(kept.library.locate(name), held.base if held else None)
        family = held.base if held else by_family(file.base)
        if family is None:
            raise BaseError(f"{file.name}: the family {file.base!r} has no table here")
        return resize_file(file, family, output, request, weights=held.weight if held else None, overwrite=overwrite)
