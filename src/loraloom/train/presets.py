"""What a purpose asks for beside a family's defaults: a few values, each with its reason. What a job says itself always counts more.

The values are common practice turned into numbers of the family. `fast` was looked at on `tiny`; none was measured on a large base.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loraloom.bases.base import TEXT_ENCODERS
from loraloom.train.defaults import Defaults
from loraloom.train.optimizers.known import Known

_RATES = {"learning_rate", "text_encoder_learning_rate"}


@dataclass(frozen=True)
class Choice:
    field: str  # of TrainConfig
    value: Callable[[Defaults], Any]
    why: str


PRESETS: Mapping[str, tuple[Choice, ...]] = {
    "style": (
        Choice("conv_rank", lambda of: of.rank // 2, "brushwork and texture are in the 3×3 convolutions; half the rank is enough for them"),
        Choice("caption_dropout", lambda of: max(0.1, of.caption_dropout), "the half of guidance without a prompt must know the style too"),
        Choice("steps", lambda of: of.steps * 4 // 3, "a style is in every part of every picture and takes longer than one subject"),
    ),
    "character": (
        Choice("components", lambda _: ("unet", TEXT_ENCODERS), "the trigger becomes a name, with a meaning of its own"),
        Choice(
            "text_encoder_learning_rate",
            lambda of: of.learning_rate * min(0.2, of.text_encoder),
            "the text encoder forgets other words long before the UNet does",
        ),
        Choice("caption_dropout", lambda _: 0.0, "the subject belongs to its trigger, not to pictures without one"),
    ),
    "few": (
        Choice("rank", lambda of: max(1, of.rank // 4), "too small to remember five pictures by heart"),
        Choice("steps", lambda of: of.steps // 2, "a few pictures are seen often enough in half the steps"),
        Choice("keep", lambda _: -1, "the best step comes early and is chosen by eye"),
    ),
    "fast": (
        Choice("steps", lambda of: of.steps // 3, "enough to see whether pictures and captions teach what is meant"),
        Choice("learning_rate", lambda of: of.learning_rate * 2, "fewer steps must go further"),
    ),
}


def preset_values(name: str, family: Defaults, optimizer: Known) -> dict[str, Any]:
    """By field; nothing for no preset. Learning rates are meant for AdamW: a part of them is another's, and who finds them gets none."""
    found = {choice.field: choice.value(family) for choice in PRESETS.get(name, ())}
    for rate in _RATES & found.keys():
        if optimizer.rate is not None:
            del found[rate]
        else:
            found[rate] *= optimizer.rate_part
    return found
