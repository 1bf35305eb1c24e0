"""What the values of a file give away: its numbers always, every tensor where it is looked into deeply."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from loraloom.catalogue.inspecting.modules import Held, Module
from loraloom.lazy import torch
from loraloom.scalars import read_numbers
from loraloom.tensorfile import is_usable, open_tensors

if TYPE_CHECKING:
    from torch import Tensor

_HALF = 65504.0  # the largest float16
_PRODUCTS = frozenset({"lora", "loha", "lokr"})  # 0 where one of their tensors is
_SUMS = frozenset({"full", "norm", "oft", "boft", "oft-onetrainer", "ia3"})  # 0 where all are


class Values(NamedTuple):
    broken: Mapping[str, str]  # by key: what drawing refuses the file for
    doubts: tuple[str, ...]


class _Extremes(NamedTuple):
    least: float
    most: float

    @property
    def is_zero(self) -> bool:
        return self.least == self.most == 0

    @property
    def largest(self) -> float:
        return max(-self.least, self.most)


def values(files: Sequence[Held], *, deep: bool) -> Values:
    """Of the tensors that are used. Raises FileError."""
    found = [each for each in files if not each.problem]
    known = {key: extremes for each in found for key, extremes in (_all(each) if deep else _numbers(each)).items()}
    broken = {
        key: "holds NaN, infinite values or values that float32 cannot hold"
        for key, (least, most) in known.items()
        if not (is_usable(least) and is_usable(most))
    }
    return Values(broken, tuple(_doubts([module for each in found for module in each.modules], known, broken)) if deep else ())


def _numbers(found: Held) -> dict[str, _Extremes]:
    names = [key for module in found.modules for key, suffix in module.keys.items() if suffix in module.type.numbers()]
    return {key: _Extremes(number, number) for key, number in read_numbers(found.header, names).items()}


def _all(found: Held) -> dict[str, _Extremes]:
    names = [*found.words, *(key for module in found.modules for key in module.keys)]
    with open_tensors(found.header) as tensors:
        return {key: _extremes(tensors[key]) for key in names if found.header.entries[key].start < found.header.entries[key].stop}


def _extremes(tensor: "Tensor") -> _Extremes:
    wide = tensor if tensor.dtype.itemsize > 1 else tensor.float()  # torch has no aminmax for float8
    least, most = torch.aminmax(wide)
    return _Extremes(float(least), float(most))


def _doubts(modules: Sequence[Module], known: Mapping[str, _Extremes], broken: Mapping[str, str]) -> Iterator[str]:
    idle = [module.name for module in modules if _is_idle(module, known)]
    if idle:
        which = "no module changes anything: all of them are zero" if len(idle) == len(modules) else f"{len(idle)} modules are zero"
        yield f"{which}, {idle[0]} among them"
    large = {key: extremes.largest for key, extremes in known.items() if extremes.largest > _HALF and key not in broken}
    if large:
        key = max(large, key=large.__getitem__)
        yield f"{len(large)} tensors hold values beyond float16, up to {large[key]:.3g} in {key}: write them in bf16 or fp32"


def _is_idle(module: Module, known: Mapping[str, _Extremes]) -> bool:
    """Whether its change is exactly 0, where its tensors alone say so."""
    own = {suffix: known[key] for key, suffix in module.keys.items() if key in known}
    numbers = module.type.numbers()
    zeros = [extremes.is_zero for suffix, extremes in own.items() if suffix not in numbers and suffix != "diff_b"]
    if "diff_b" in own and not own["diff_b"].is_zero:
        return False
    if module.type.name in _PRODUCTS:
        scales = ("scale", "scalar") if "scale" in own else ("alpha", "scalar")  # a scale counts in place of alpha
        return any(zeros) or any(own[suffix].is_zero for suffix in scales if suffix in own)
    return module.type.name in _SUMS and all(zeros)
