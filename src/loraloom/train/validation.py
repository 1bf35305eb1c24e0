"""Held-out pictures: the loss of pictures that are not trained on, beside that of as many that are.

Noise, timestep and whatever else chance decides are drawn once for each sample and stay, so that two looks differ by what was
learned between them and by nothing else. Looking changes nothing that is trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from loraloom.lazy import torch
from loraloom.train.chance import Sample
from loraloom.train.heldout import some
from loraloom.train.optimizers.make import evaluated
from loraloom.train.record import Measured
from loraloom.train.step import Stepper

_SAMPLES = 64  # of each side, about: one picture is asked at up to 16 timesteps
_MOST_DRAWS = 16


@dataclass(frozen=True)
class Validation:
    """Two sets of pictures, and the samples that both are asked with."""

    held_out: Stepper
    trained: Stepper

    def look(self, step: int) -> Measured:
        """The losses of what a file of this step would hold, weighted as in training."""
        pictures = len(self.held_out.dataset.own)
        with _as_published(self.trained):
            return Measured(step, tuple(_losses(self.held_out, pictures)), tuple(_losses(self.trained, pictures)))


@contextmanager
def _as_published(stepper: Stepper) -> Iterator[None]:
    """Inside, the network is what its file holds: averaged where the job or the optimiser averages. Afterwards the same bits as before."""
    if stepper.average is None:
        with evaluated(stepper.optimizer):
            yield
        return
    slots = [(stepper.average.values[f"{target}.{field}"], parameter) for target, field, parameter in stepper.network.slots()]
    kept = [parameter.detach().clone() for _, parameter in slots]
    try:
        for value, parameter in slots:
            parameter.data.copy_(value)
        yield
    finally:
        for (_, parameter), before in zip(slots, kept, strict=True):
            parameter.data.copy_(before)


def _losses(stepper: Stepper, pictures: int) -> Iterator[float]:
    config, draws = stepper.config, max(1, min(_MOST_DRAWS, _SAMPLES // pictures))
    with torch.no_grad(), stepper.network.attached(), stepper.abandonable():
        for index in some(len(stepper.dataset.own), pictures, config.seed):
            name = stepper.dataset.pictures[index].name
            samples = [Sample(config.seed, 0, index, f"{name}#look.{draw}") for draw in range(draws)]
            for start in range(0, draws, config.batch):  # of one picture, so that all are of one shape
                yield from stepper.losses(samples[start : start + config.batch]).tolist()
