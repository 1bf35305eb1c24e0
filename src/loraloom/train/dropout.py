"""What rests by chance while adapters learn: parts of their input, ranks, whole adapters. Nothing rests when pictures are drawn.

Input and modules are drawn for each picture, ranks for each step, from generators of their own (`chance`): the company of a picture
in its batch, passes that are added up and a run that was stopped change none of it. What stays of an input and of the ranks is
multiplied by 1/(1 − p), so that its mean is what it is without dropout; a module is all there or not (as in kohya's and LyCORIS' trainers).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.bases import Target
from loraloom.lazy import torch
from loraloom.train.chance import Sample, generator
from loraloom.train.config import ResolvedConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class Dropout:
    """The parts that rest, 0 to 1."""

    inputs: float = 0.0
    ranks: float = 0.0
    modules: float = 0.0

    @classmethod
    def of(cls, config: ResolvedConfig) -> "Dropout":
        return cls(config.dropout, config.rank_dropout, config.module_dropout)

    def __bool__(self) -> bool:
        return bool(self.inputs or self.ranks or self.modules)

    def branch(
        self, adapter: Adapter, target: Target, samples: Sequence[Sample], layer: "Module", x: "Tensor", y: "Tensor"
    ) -> "tuple[Tensor, bool]":
        """What the adapter adds to y = layer(x) in this step, and whether any of it is left. The rows of x are the samples' in turn."""
        awake = True
        scaling = adapter.scaling()
        if self.ranks and scaling is not None:
            seed = generator(samples[0].seed, samples[0].step, str(target), "rank dropout")
            mask = _kept((scaling[0],), self.ranks, seed)
            awake = bool(mask.any())
            adapter = adapter.weighed(mask / (1 - self.ranks)) or adapter
        if self.inputs and adapter.name != "norm":
            each = (len(x) // len(samples), *x.shape[1:])
            masks = [_kept(each, self.inputs, sample.generator(f"dropout {target}", x.device)) for sample in samples]
            x = x * (torch.cat(masks).to(x.dtype) / (1 - self.inputs))
        added = adapter.branch(layer, x, y)
        if self.modules:
            stays = torch.tensor([sample.chance(f"module dropout {target}") >= self.modules for sample in samples])
            awake = awake and bool(stays.any())
            rows = stays.repeat_interleave(len(added) // len(samples)).to(added)
            added = added * rows.reshape(-1, *[1] * (added.ndim - 1))
        return added, awake


def _kept(shape: tuple[int, ...], part: float, seed: "torch.Generator") -> "Tensor":
    """1 where something stays, 0 where it rests."""
    return (torch.rand(shape, generator=seed, device=seed.device) >= part).float()
