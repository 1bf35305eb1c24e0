"""Networks of a mix as one file, or the difference of two checkpoints; and how far from the mix a file of each rank would be."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from loraloom import dialects
from loraloom.bases import Base
from loraloom.bases.detect import by_family
from loraloom.combine import CombineRequest, Curve, OnModule, Weights
from loraloom.combine import curve as curve_of
from loraloom.combine.flatten import flatten
from loraloom.dialects.readers import naming
from loraloom.errors import LoraError, NotSupported, SettingsError
from loraloom.extracting import Extracted, extract_difference
from loraloom.extracting import extract as extract_mix
from loraloom.generate.opened import Opened, usual_steps
from loraloom.generate.pipeline import EMBEDDED
from loraloom.generate.probe import probed_live
from loraloom.lorafile import Stack
from loraloom.session.kept import Kept
from loraloom.session.library import Library


def check(library: Library, request: CombineRequest) -> None:
    """Raise what a mix gets wrong before a file is read for it."""
    library.mixed(request.mix)
    naming(request.tool, request.dialect)


def extract(
    kept: Kept, request: CombineRequest, output: Path, *, live: bool, on_module: OnModule | None, overwrite: bool, room: int | None
) -> Extracted:
    """The file of the request, and with `live` what the open base puts out with the mix and with the file."""
    if request.tuned is not None:
        if live:
            raise SettingsError("what a base puts out is compared for a mix, not for the difference of two checkpoints")
        return _difference(kept, request, output, on_module=on_module, overwrite=overwrite)
    with _stacked(kept, request) as (full, stack, base, weights):
        opened = kept.bases.open(full.base or _embedded(base)) if live else None
        found = extract_mix(stack, base, output, full, weights=weights, overwrite=overwrite, on_module=on_module, room=room)
        if opened is None:
            return found
        played = flatten(stack, full.steps).stack if full.flatten and full.steps else stack
        return _compared(found, opened, _only(played, full.components))


def curve(kept: Kept, request: CombineRequest, on_module: OnModule | None) -> Curve:
    """The request's mix against its file at every rank."""
    with _stacked(kept, request) as (full, stack, base, weights):
        return curve_of(stack, base, weights=weights, components=full.components, steps=full.steps, on_module=on_module)


def _difference(kept: Kept, request: CombineRequest, output: Path, *, on_module: OnModule | None, overwrite: bool) -> Extracted:
    """What turns the request's base into its tuned checkpoint."""
    assert request.base is not None
    assert request.tuned is not None
    if not kept.library.paths:
        raise NotSupported("two checkpoints are compared by the command line and the library; a server only takes mixes")
    bases = kept.bases
    with bases.weights(request.base, opening=False) as before, bases.weights(request.tuned, opening=False) as after:
        return extract_difference(before, after, output, request, on_module=on_module, overwrite=overwrite)


@contextmanager
def _stacked(kept: Kept, request: CombineRequest) -> Iterator[tuple[CombineRequest, Stack, Base, Weights | None]]:
    """The request with its steps, the networks of its mix, the family they are for, and the base's weights where it names one."""
    named = kept.library.mixed(request.mix)
    with kept.bases.asked(request.base) as held:
        files = [replace(dialects.read(use.item.path, held.base if held else None), called=use.called) for use in named]
        family = held.base if held else by_family(files[0].base)
        assert family is not None
        if request.flatten and request.steps is None:
            request = request.model_copy(update={"steps": usual_steps(family.family)})
        stack = tuple(zip(files, (use.strength for use in named), strict=True))
        yield request, stack, family, held.weight if held else None


def _embedded(base: Base) -> str:
    """The base of this family that comes with the program; raises SettingsError where there is none."""
    if base.family not in EMBEDDED:
        raise SettingsError(f"to compare what {base.title} puts out its base is opened; give one", fields=("base",))
    return base.family


def _only(stack: Stack, components: Sequence[str] | None) -> Stack:
    """What the networks do to these components; None: to all. Networks of which nothing is left are left out."""
    if components is None:
        return stack
    cut = [
        (replace(file, adapters={target: adapter for target, adapter in file.adapters.items() if target.component in components}), strength)
        for file, strength in stack
    ]
    return [(file, strength) for file, strength in cut if file.adapters or file.embeddings]


def _compared(found: Extracted, held: Opened, stack: Stack) -> Extracted:
    """With what the open base puts out; a warning where it cannot be asked, as the file is written by then."""
    try:
        return replace(found, outputs=probed_live(held, stack, dialects.read(found.path, held.base, force=True)))
    except LoraError as error:
        return replace(found, warnings=(*found.warnings, f"what {held.model} puts out was not compared: {error}"))
