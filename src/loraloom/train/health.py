"""Is the run alive? A target without a gradient learns nothing, a NaN ruins everything: both stop the run and say where."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loraloom.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from loraloom.train.trainable import Trainable

_SHOWN = 5
_FIRST = 3  # steps: a tensor behind one that begins at 0 (LoRA's down, behind up) gets its first gradient at the second


class Sentinel:
    """Watches the first steps of a start; float16's overflows at any step."""

    def __init__(self) -> None:
        self._looked = 0
        self._idle: dict[str, None] = {}  # tensors that no gradient has reached yet
        self._skipped = 0
        self._news: list[str] = []

    def look(self, network: "Trainable", step: int) -> None:
        """Raises TrainingError where a target gets no gradient at the first step, or one that is not a number."""
        if self._looked == _FIRST:
            return
        if not self._looked:
            check_gradients(network, step)
            self._idle = {f"{target}.{field}": None for target, field, _ in network.slots()}
        for target, field, parameter in network.slots():
            if parameter.grad is not None and bool(parameter.grad.any()):
                self._idle.pop(f"{target}.{field}", None)
        self._looked += 1
        if self._looked == _FIRST and self._idle:
            self._news.append(
                f"{len(self._idle)} tensors got no gradient in {_FIRST} steps and learn nothing so far: {_listed(self._idle)}"
            )

    def overflown(self, scale: float, pictures: Sequence[str], step: int) -> None:
        """A step that is left out. Raises TrainingError where it is not the scale that overflows."""
        if scale <= 1:
            raise TrainingError(
                f"step {step}: float16 overflows with {_listed(dict.fromkeys(pictures))} even without loss scaling; "
                "use --mixed-precision bfloat16 or no"
            )
        self._skipped += 1
        if self._skipped == 1:
            self._news.append(f"step {step} is left out because float16 overflows at a loss scale of {scale:g}; a few of these are usual")

    def news(self) -> tuple[str, ...]:
        """What is to be told since it was asked last."""
        told, self._news = tuple(self._news), []
        return told


def check_gradients(network: "Trainable", step: int) -> None:
    """After the first backward pass: every target's gradients are finite and at least one of them is not zero everywhere.

    At the start an adapter is 0 because one of its tensors is (LoRA: up), so the others have no gradient yet; that one has.
    """
    largest: dict[str, float] = {}
    rested = network.rested  # by dropout
    for target, _, parameter in network.slots():
        if target in rested:
            continue
        here = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        before = largest.get(str(target), 0.0)
        largest[str(target)] = math.nan if math.isnan(here) or math.isnan(before) else max(before, here)
    broken = [name for name, value in largest.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(f"step {step}: gradients are NaN or infinite in {_listed(broken)}; load the base in float32")
    dead = [name for name, value in largest.items() if value == 0]
    if dead:
        raise TrainingError(
            f"step {step}: no gradient reaches {_listed(dead)} ({len(dead)} of {len(largest)} modules): they would learn nothing. "
            "Is the base's forward replaced by something that goes around these modules?"
        )


def check_loss(losses: "Tensor", pictures: Sequence[str], step: int) -> None:
    """`losses` [n], one for each picture; raises TrainingError naming the pictures whose loss is not a number."""
    bad = [picture for picture, fine in zip(pictures, losses.detach().isfinite().tolist(), strict=True) if not fine]
    if bad:
        raise TrainingError(f"step {step}: the loss is NaN or infinite with {_listed(dict.fromkeys(bad))}; {_ADVICE}")


def check_norm(norm: "Tensor", pictures: Sequence[str], step: int) -> None:
    if not bool(norm.isfinite()):
        raise TrainingError(f"step {step}: the gradient is NaN or infinite with {_listed(dict.fromkeys(pictures))}; {_ADVICE}")


_ADVICE = "lower the learning rate, or look at these pictures. What was learned until the last saved state is kept"


def _listed(names: "Sequence[str] | dict[str, None]") -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
