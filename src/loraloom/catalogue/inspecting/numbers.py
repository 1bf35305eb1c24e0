"""Ranks, alphas and axes of a file's adapters, from shapes and from the few numbers that it holds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from loraloom.adapters import Shape
from loraloom.adapters.dora import axis
from loraloom.catalogue.inspecting.inspection import Spread
from loraloom.catalogue.inspecting.modules import Held, Module
from loraloom.scalars import read_numbers

# The tensor whose first length is the rank, by type; the first that is there counts.
_RANKS = ("lora_down.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")


class Numbers(NamedTuple):
    ranks: Spread | None
    alphas: Spread | None
    dora: Mapping[str, int]  # modules by axis


def numbers(files: Iterable[Held]) -> Numbers:
    """What the modules have; alphas are those that the files themselves hold. Raises FileError."""
    found = list(files)
    modules = [module for each in found for module in each.modules]
    ranks = (rank for module in modules if (rank := rank_of(module.shapes)) is not None)
    axes = Counter(axis_of(module) for module in modules if "dora_scale" in module.shapes)
    return Numbers(Spread.of(ranks), Spread.of(alpha for each in found for alpha in _alphas(each)), dict(axes.most_common()))


def _alphas(found: Held) -> Iterable[float]:
    return read_numbers(
        found.header, (key for module in found.modules for key, suffix in module.keys.items() if suffix == "alpha")
    ).values()


def rank_of(shapes: Mapping[str, Shape]) -> int | None:
    """The rank that alpha is divided by, or None for types without one."""
    for suffix in _RANKS:
        if len(shape := shapes.get(suffix, ())) > 1:
            return shape[0]
    glora = shapes.get("a1.weight", ())
    return min(glora[:2]) if len(glora) > 1 else None  # [in, rank] or [rank, in]


def axis_of(module: Module) -> str:
    """Whose norms a DoRA's magnitudes are: of the output's rows or the input's columns."""
    shape = module.shapes["dora_scale"]
    if module.target is not None and (known := axis(shape, module.target)):
        return known
    return "input" if len(shape) > 1 and shape[0] == 1 and shape[1] > 1 else "output"
