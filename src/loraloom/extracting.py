"""A mix of networks, the difference of two checkpoints, or one network at a smaller size, as one new file: written, read back, and
compared with what it comes from."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from loraloom import dialects
from loraloom.atomic import refuse_existing
from loraloom.basefile import BaseFile
from loraloom.bases import Base
from loraloom.combine import (
    Combined,
    CombineRequest,
    Goal,
    Module,
    OnModule,
    ResizeRequest,
    Weights,
    combine,
    commonest_dtype,
    difference,
    distances,
    of_difference,
    of_stack,
    probed,
)
from loraloom.combine.plot import draw_modules
from loraloom.combine.probe import Added
from loraloom.combine.request import Sized
from loraloom.dialects.base import Dialect
from loraloom.dialects.metadata import resized
from loraloom.dialects.publishing import DTYPES, publish
from loraloom.dialects.readers import likeliest, naming, notes, of_tool, require, told
from loraloom.errors import SettingsError
from loraloom.lorafile import LoraFile, Stack
from loraloom.strength import Strength


@dataclass(frozen=True)
class Row:
    """One module of what was written. Errors are relative to the change that was to be written (Frobenius)."""

    module: str
    type: str
    rank: int  # 0 for what has none
    ranks: int  # of the mix; 0 for a difference of checkpoints
    error: float  # of the approximation
    written: float  # of the approximation and of the rounding to the dtype
    output: float  # of what the module puts out for a fixed random input, as written


@dataclass(frozen=True)
class Flat:
    """The mix that the file has: the mean of each strength over this many steps, in tags."""

    steps: int
    mix: str


@dataclass(frozen=True)
class Extracted:
    """What was written, and how far it is from what it is made of."""

    path: Path
    base: str
    dialect: str
    dtype: str
    method: str
    types: Mapping[str, int]
    components: Mapping[str, int]  # modules of each
    ranks: tuple[int, int]  # smallest and largest
    error: float  # of all modules together, as combined
    written: float  # of all modules together, as written
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    flattened: Flat | None = None  # where the mix changes by step and its mean was asked for
    outputs: Mapping[str, float] = field(default_factory=dict)  # of a live base's components, relative to what the mix changes in them

    @property
    def worst(self) -> Row:
        return max(self.rows, key=lambda row: row.written)

    @property
    def furthest(self) -> Row:
        """By what it puts out."""
        return max(self.rows, key=lambda row: row.output)

    def plot(self, path: Path, *, overwrite: bool = False) -> None:
        """A PNG with the error and rank of each module, in the base's order. Raises NotSupported without matplotlib, WriteFailed, Taken."""
        errors = {"weights, as written": [row.written for row in self.rows], "output": [row.output for row in self.rows]}
        if self.error:
            errors = {"weights, as combined": [row.error for row in self.rows]} | errors
        title = f"{self.path.name}: {self.method}, {self.dtype}"
        draw_modules(
            path, [row.module for row in self.rows], errors, [(row.ranks, row.rank) for row in self.rows], title, overwrite=overwrite
        )


def extract(
    stack: Stack,
    base: Base,
    output: Path,
    request: CombineRequest,
    *,
    weights: Weights | None = None,
    overwrite: bool = False,
    on_module: OnModule | None = None,
    room: int | None = None,
) -> Extracted:
    """Write the stack, which is the request's mix, as one network. `weights` are those of the base, for types that need them.

    `output` gets its name only after it was read back and has every module; until the last `on_module` nothing is written.
    Raises what `combine` raises, SettingsError, also for more than `room` bytes, DialectCannotHold, WriteFailed, Taken if something is
    there already or appears meanwhile.
    """
    names = _components(base, output, request, overwrite)
    if request.flatten and request.steps is None:
        raise SettingsError("the mean of a strength depends on the steps of the run; say how many")
    goal = _goal(request)
    found = combine(stack, base, goal, weights=weights, components=names, mix=request.mix, steps=request.steps, on_module=on_module)
    _require_room(found, _dtype(request), room)
    warnings = tuple(f"{file.name}: {warning}" for file, _ in stack for warning in file.warnings)
    source = of_stack(found.flattened.stack if found.flattened else stack, weights)
    return _written(found, base, output, request, _dtype(request), warnings, source, overwrite=overwrite)


def extract_difference(
    before: BaseFile,
    after: BaseFile,
    output: Path,
    request: CombineRequest,
    *,
    on_module: OnModule | None = None,
    overwrite: bool = False,
) -> Extracted:
    """Write what turns the base `before` into `after`, which are the request's `base` and `tuned`, as one network.

    As `extract`; raises what `difference` raises. What the dialect cannot hold ends it at once, not after the last module.
    """
    base, kind = before.base, naming(request.tool, request.dialect)
    names = request.components
    if base is after.base:
        meant = _components(base, output, request, overwrite)
        names = None if names is None else meant

    def check(module: Module) -> None:
        kind.write_tensors(module.adapter, base.by_target[module.target], base)

    found = difference(before, after, _goal(request), components=names, check=check, on_module=on_module)
    return _written(found, base, output, request, _dtype(request), found.notes, of_difference(before, after), overwrite=overwrite)


def resize(
    file: LoraFile, base: Base, output: Path, request: ResizeRequest, *, weights: Weights | None = None, overwrite: bool = False
) -> Extracted:
    """Write one network at the size of the request; errors are relative to the network itself. Its metadata stays, but for its ranks.

    `weights` and `output` as for `extract`; raises the same.
    """
    naming(request.tool, request.dialect)
    refuse_existing(output, overwrite=overwrite)
    stack = ((file, Strength.of(1.0)),)
    found = combine(stack, base, _goal(request), weights=weights)
    found = replace(found, file=replace(found.file, metadata=_resized(file, found)))
    left_out: tuple[str, ...] = ()
    if count := len(file.unknown):
        more = f", and {count - 1} more" if count > 1 else ""
        left_out = (f"{file.name}: left out, because it fits nothing: {file.unknown[0]}{more}",)
    dtype = DTYPES[request.dtype] if request.dtype else commonest_dtype(file)
    return _written(found, base, output, request, dtype, (*file.warnings, *left_out), of_stack(stack, weights), overwrite=overwrite)


def _components(base: Base, output: Path, request: CombineRequest, overwrite: bool) -> tuple[str, ...]:
    """Those of the request, or all. What can be known to be wrong before the work begins is raised here."""
    naming(request.tool, request.dialect)
    names = base.components if request.components is None else base.named(request.components)
    refuse_existing(output, overwrite=overwrite)
    return names


def _dtype(request: CombineRequest) -> str:
    return DTYPES[request.dtype or ("fp32" if request.goal.exact else "fp16")]


def _written(
    found: Combined,
    base: Base,
    output: Path,
    request: Sized,
    dtype: str,
    warnings: tuple[str, ...],
    source: Added,
    *,
    overwrite: bool,
) -> Extracted:
    dialect, readers_told = _naming(found.file, base, request)
    flat, back = found.flattened, publish(found.file, base, output, dialect.name, dtype, overwrite=overwrite)
    rounded, put_out = distances(back, found.file, base), probed(back, source, base)
    rows = tuple(_row(module, rounded[module.target], put_out[module.target]) for module in found.modules)
    return Extracted(
        output,
        base.title,
        dialect.title,
        dtype,
        found.method,
        dict(Counter(row.type for row in rows).most_common()),
        dict(Counter(module.target.component for module in found.modules)),
        found.ranks,
        found.error,
        _together(found, rows),
        rows,
        (*warnings, *(flat.warnings if flat else ()), *_beyond(request.goal, rows, dtype), *readers_told),
        Flat(flat.steps, flat.mix) if flat else None,
    )


def _goal(request: Sized) -> Goal:
    """With lora as its type where the file is for a program that reads nothing else."""
    goal = request.goal
    if request.tool is None or goal.type is not None or any("full" in reads.whole for reads in of_tool(request.tool)):
        return goal
    return replace(goal, type="lora")


def _naming(file: LoraFile, base: Base, request: Sized) -> tuple[Dialect, tuple[str, ...]]:
    """How the file is named, and what is worth to know about who reads it. Raises NotSupported for what the request's program does not
    read as it is meant."""
    if request.tool is None:
        return dialects.by_name(request.dialect), notes(file, base, request.dialect)
    reads = likeliest(file, base, request.tool)
    require(file, base, reads)
    return dialects.by_name(reads.dialect), tuple(told(file, base, reads))


def _require_room(found: Combined, dtype: str, room: int | None) -> None:
    needed = found.file.nbytes * (4 if dtype == "float32" else 2) // 4
    if room is not None and needed > room:
        raise SettingsError(f"the file would have {needed >> 20:,} MiB, more than {room >> 20:,}; give a rank or an error")


def _together(found: Combined, rows: Sequence[Row]) -> float:
    """The error of all modules together as written, as `Combined.error` is as combined."""
    norms = [module.norm for module in found.modules]
    whole = math.hypot(*norms)
    return math.hypot(*(row.written * norm for row, norm in zip(rows, norms, strict=True))) / whole if whole else 0.0


def _beyond(goal: Goal, rows: tuple[Row, ...], dtype: str) -> tuple[str, ...]:
    """A sentence where rounding takes modules out of the bound that was asked for."""
    most = goal.most
    out = [row for row in rows if most is not None and row.error <= most < 0.99 * row.written]
    if not out or most is None:
        return ()
    worst = max(out, key=lambda row: row.written)
    remedy = "" if dtype == "float32" else "; fp32 keeps them within"
    return (f"rounding to {dtype} takes {len(out)} modules beyond {most:g}, {worst.module} to {worst.written:.2g}{remedy}",)


def _resized(file: LoraFile, found: Combined) -> dict[str, str]:
    """The source's metadata with the new ranks, and where it comes from: the name without its folders, which may hold their owner's."""
    types = Counter(adapter.name for adapter in file.adapters.values())
    told: dict[str, object] = {"file": file.path.name if file.path else file.name, "dialect": file.dialect, "types": types}
    told |= {"method": found.method, "error": float(f"{found.error:.6g}"), "unused": len(file.unknown)}
    if hashed := file.metadata.get("sshs_model_hash"):
        told["sshs_model_hash"] = hashed[:66]
    return {**resized(file.metadata, found.file.adapters), "loraloom.resized_from": json.dumps(told, ensure_ascii=False)}


def _row(module: Module, rounded: float, output: float) -> Row:
    """The approximation is orthogonal to what it leaves out, so that both errors add up in squares; what is rounded is the part
    that stays."""
    kept = (1 - module.error**2) ** 0.5
    return Row(
        str(module.target),
        module.adapter.name,
        module.rank,
        module.ranks,
        module.error,
        (module.error**2 + (rounded * kept) ** 2) ** 0.5,
        output,
    )
