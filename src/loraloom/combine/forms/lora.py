"""A change as a LoRA: by its own factors where nothing may be lost, else by its best factors of a smaller rank."""

from typing import TYPE_CHECKING

from loraloom.adapters import MAX_RANK, LoRA
from loraloom.combine.change import Change, Module
from loraloom.combine.goal import Goal
from loraloom.errors import NotSupported
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_SIZES = ("rank", "error", "energy")


def lora(change: Change, goal: Goal) -> Module:
    """Raises NotSupported where the goal is exact and the change has no factors, or more ranks than a file may have."""
    if not goal.exact:
        spectrum = change.spectrum(goal)
        rank = goal.rank_of(spectrum)
        down, up = spectrum.factors(rank)
        return change.made(_lora(change, down, up), rank=len(down), error=spectrum.error_of(rank), norm=spectrum.norm)
    target = change.layer.target
    if change.rest is not None:
        raise NotSupported(
            f"{target}: {change.types} cannot be written as lora without loss: its change is not of low rank; "
            "say with a rank, an error or an energy how much may be lost",
            fields=_SIZES,
        )
    if change.ranks > MAX_RANK:
        raise NotSupported(
            f"{target}: {change.types} has rank {change.ranks:,} as a lora, the limit is {MAX_RANK:,}; "
            "a rank, an error or an energy makes it smaller",
            fields=_SIZES,
        )
    return change.made(_lora(change, change.down, change.scaled.float()), rank=change.ranks)


def _lora(change: Change, down: "Tensor", up: "Tensor") -> LoRA:
    """alpha is the rank: the factors hold all of the scale. One rank of zeros where nothing is left but a bias."""
    if not len(down):
        down, up = torch.zeros(1, down.shape[1]), torch.zeros(len(up), 1)
    shape = change.layer.shape
    kernel = shape[2:]
    return LoRA(
        down=down.reshape(len(down), shape[1], *kernel).contiguous(),
        up=up.reshape(shape[0], len(down), *[1] * len(kernel)).contiguous(),
        alpha=torch.tensor(float(len(down))),
        bias=change.bias,
    )
