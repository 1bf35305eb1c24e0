"""How much of a file fits a base, module by module and block by block, and why the rest does not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loraloom.bases import Base, Layer
from loraloom.bases.detect import UNKNOWN, Detection, by_family, detect
from loraloom.catalogue.inspecting.inspection import Share, Unused
from loraloom.catalogue.inspecting.modules import held
from loraloom.catalogue.inspecting.values import values
from loraloom.catalogue.looking import looking_at
from loraloom.dialects import folder
from loraloom.dialects.doubts import doubts
from loraloom.dialects.placing import nameless
from loraloom.errors import BaseError

Verdict = Literal["whole", "partly", "not"]


@dataclass(frozen=True)
class Block:
    """`name` is as block weights count: IN04, M00, OUT11; `in` and `out` are what stands before and after the blocks."""

    name: str
    attention: Share
    rest: Share


@dataclass(frozen=True)
class Coverage:
    component: str
    modules: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Fit:
    """`verdict`: every tensor is used, some are, or none may be; `reason` says why it is not whole."""

    name: str
    base: str  # "SD 1.x": what the file is held against
    family: str
    made_for: str  # what the file speaks for, with the evidence
    verdict: Verdict
    reason: str
    dialect: str
    tensors: int
    used: int
    modules: int
    components: tuple[Coverage, ...]
    unused: tuple[Unused, ...]
    warnings: tuple[str, ...]


def fit(path: str | Path, base: Base | None = None, *, strict: bool = False, deep: bool = False) -> Fit:
    """Against `base`, or the family that the file speaks for. `strict`: what fits partly does not fit. Alpha and its like are looked at
    always, with `deep` every value: a file with one that cannot be used does not fit, as nothing draws with it.

    Raises FileError subclasses for a file that is no safetensors file, BaseError where no base is given and the file's own has no
    table here.
    """
    with looking_at(Path(path)):
        return _fit(Path(path), base, strict=strict, deep=deep)


def _fit(path: Path, base: Base | None, *, strict: bool, deep: bool) -> Fit:
    parts = folder.opened(path)
    found = detect({key: shape for part in parts for key, shape in part.shapes().items()}, parts[0].header.metadata)
    own = by_family(found.family) if found.family else None
    against = base or own
    if against is None:
        says, fields = nameless(path.name, found, parts)
        raise BaseError(says, fields=fields)
    files = [held(part, against) for part in parts]
    fitting = [each for each in files if not each.problem]
    unused = [unused for each in fitting for unused in each.unused]
    unused += [Unused(key, each.problem) for each in files if each.problem for key in each.header.entries]
    inside = values(files, deep=deep)
    tensors = sum(len(part.header.entries) for part in parts)
    refused = _refused(found, against)
    verdict: Verdict
    if refused or not fitting:
        likely = "" if found.title in (UNKNOWN, against.title) else f"{_made_for(found)}; the base is {against.title}, and nothing fits: "
        verdict, reason = "not", refused or f"{likely}{files[0].problem}"
    elif inside.broken:
        key, why = next(iter(inside.broken.items()))
        others = f", and {len(inside.broken) - 1} more do" if len(inside.broken) > 1 else ""
        verdict, reason = "not", f"{key} {why}{others}; `loraloom convert` can leave out the modules that they break"
    else:
        verdict, reason = ("partly", f"{len(unused)} of {tensors} tensors are not used") if unused else ("whole", "")
    applied = frozenset(module.name for each in fitting for module in each.modules)
    return Fit(
        name=path.name or path.resolve().name,
        base=against.title,
        family=against.family,
        made_for=_made_for(found),
        verdict="not" if strict and verdict == "partly" else verdict,
        reason=reason,
        dialect=max(files, key=lambda each: len(each.modules)).dialect,
        tensors=tensors,
        used=tensors - len(unused),
        modules=len(applied),
        components=tuple(_coverage(against, applied)),
        unused=tuple(unused),
        warnings=(
            *found.contradictions,
            *(() if found.title == against.title else (f"matched with {against.title} by names and shapes",)),
            *inside.doubts,
            *doubts([(each.header, each.match) for each in fitting if each.match]),
        ),
    )


def _made_for(found: Detection) -> str:
    if found.title == UNKNOWN:
        return "it does not say what base it was made for" + (f" ({found.evidence[-1]})" if found.evidence else "")
    return f"made for {found.title} ({'; '.join(found.evidence)})"


def _refused(found: Detection, base: Base) -> str:
    """Why drawing would refuse the file although its shapes may fit, or nothing."""
    if found.title == base.title or not found.rules_out({base.title}):
        return ""
    return f"{_made_for(found)}; the base is {base.title}"


def _coverage(base: Base, applied: frozenset[str]) -> Iterator[Coverage]:
    for component in base.components:
        layers = [layer for layer in base.layers if layer.target.component == component]
        have = [layer for layer in layers if str(layer.target) in applied]
        if not have:
            yield Coverage(component, 0, ())
            continue
        blocks: dict[str, list[Layer]] = {}
        for layer in layers:
            blocks.setdefault(_block_name(layer, base), []).append(layer)
        yield Coverage(
            component,
            len(have),
            tuple(_block(name, inside, applied) for name, inside in blocks.items()),
        )


def _block(name: str, layers: list[Layer], applied: frozenset[str]) -> Block:
    attention, rest = (
        [str(layer.target) for layer in layers if (layer.attention and layer.kind in ("linear", "conv")) == which]
        for which in (True, False)
    )
    return Block(name, *(Share(len(applied.intersection(each)), len(each)) for each in (attention, rest)))


def _block_name(layer: Layer, base: Base) -> str:
    """What stands before and after the blocks goes by its third; text encoders have neither."""
    return base.block_names[layer.block] if layer.block is not None else layer.third or "all"
