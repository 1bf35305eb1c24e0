"""A mix of networks as one new file: combined, written, read back, and compared with the mix."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loraloom import dialects
from loraloom.bases import Base
from loraloom.combine import CombineRequest, Module, Weights, combine, distances
from loraloom.dialects.publishing import DTYPES, publish, refuse_existing
from loraloom.errors import SettingsError
from loraloom.lorafile import Stack


@dataclass(frozen=True)
class Row:
    """One module of what was written. Errors are relative to the mix (Frobenius)."""

    module: str
    type: str
    rank: int  # 0 for what has none
    ranks: int  # of the mix
    error: float  # of the approximation
    written: float  # of the approximation and of the rounding to the dtype


@dataclass(frozen=True)
class Extracted:
    """What was written, and how far it is from the mix."""

    path: Path
    base: str
    dialect: str
    dtype: str
    method: str
    types: Mapping[str, int]
    components: Mapping[str, int]  # modules of each
    ranks: tuple[int, int]  # smallest and largest
    error: float  # of all modules together
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    @property
    def worst(self) -> Row:
        return max(self.rows, key=lambda row: row.written)


def extract(
    stack: Stack,
    base: Base,
    output: Path,
    request: CombineRequest,
    *,
    weights: Weights | None = None,
    overwrite: bool = False,
) -> Extracted:
    """Write the stack, which is the request's mix, as one network. `weights` are those of the base, for types that need them.

    `output` gets its name only after it was read back and has every module. Raises what `combine` raises, SettingsError,
    DialectCannotHold, WriteFailed if something is there already.
    """
    kind = dialects.by_name(request.dialect)
    names = base.components if request.components is None else request.components
    if unknown := [name for name in names if name not in base.components]:
        raise SettingsError(f"{base.title} has no component {unknown[0]!r}; there are {', '.join(base.components)}")
    refuse_existing(output, overwrite=overwrite)
    found = combine(stack, base, request.goal, weights=weights, components=names, mix=request.mix)
    name = DTYPES[request.dtype or ("fp32" if request.goal.exact else "fp16")]
    back = publish(found.file, base, output, kind.name, name)
    rounded = distances(back, found.file, base)
    rows = tuple(_row(module, rounded[module.target]) for module in found.modules)
    return Extracted(
        output,
        base.title,
        kind.title,
        name,
        found.method,
        dict(Counter(row.type for row in rows).most_common()),
        dict(Counter(module.target.component for module in found.modules)),
        found.ranks,
        found.error,
        rows,
        tuple(f"{file.name}: {warning}" for file, _ in stack for warning in file.warnings),
    )


def _row(module: Module, rounded: float) -> Row:
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
    )
