"""One file of the library in another form: converted, edited, resized."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from loraloom import dialects
from loraloom.bases.detect import by_family
from loraloom.bases.identify import identify
from loraloom.catalogue.sidecar import read_sidecar
from loraloom.combine import Goal, ResizeRequest
from loraloom.converting import Converted
from loraloom.converting import convert as convert_file
from loraloom.dialects.fields import TRIGGER
from loraloom.editing import Edited
from loraloom.editing import edit as edit_file
from loraloom.errors import BaseError, WriteFailed
from loraloom.extracting import Extracted
from loraloom.extracting import resize as resize_file
from loraloom.session.kept import Kept
from loraloom.settings import packaged


class Form(NamedTuple):
    """What a file is converted to; as `converting.convert` says."""

    dialect: str | None
    tool: str | None
    goal: Goal
    dtype: str | None
    plain: bool
    repair: bool = False


def convert(kept: Kept, name: str | Path, output: Path, form: Form, base: str | None, *, overwrite: bool) -> Converted:
    """The file in another form. The base's weights are read where they may be needed, else its family alone is asked for."""
    path, needed = kept.library.locate(name), base if form.tool or form.plain else None
    with kept.bases.asked(needed) as held:
        known = held.base if held else identify(base) if base else None
        weights = held.weight if held else None
        return convert_file(path, output, **form._asdict(), base=known, weights=weights, overwrite=overwrite)


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
