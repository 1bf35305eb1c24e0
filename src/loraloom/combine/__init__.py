"""LoRAs -> LoRA: the same change in another form, and several changes as one."""

from loraloom.combine.change import Module, Weights
from loraloom.combine.combining import Combined, OnModule, combine
from loraloom.combine.convert import as_type, commonest_dtype, rounding
from loraloom.combine.curves import Curve, curve
from loraloom.combine.difference import difference
from loraloom.combine.distance import distances
from loraloom.combine.forms import TYPES
from loraloom.combine.goal import EXACT, Goal
from loraloom.combine.probe import of_difference, of_stack, probed
from loraloom.combine.prune import part
from loraloom.combine.readable import Fitted, as_read, plain
from loraloom.combine.request import CombineRequest, ResizeRequest

__all__ = [
    "EXACT",
    "TYPES",
    "CombineRequest",
    "Combined",
    "Curve",
    "Fitted",
    "Goal",
    "Module",
    "OnModule",
    "ResizeRequest",
    "Weights",
    "as_read",
    "as_type",
    "combine",
    "commonest_dtype",
    "curve",
    "difference",
    "distances",
    "of_difference",
    "of_stack",
    "part",
    "plain",
    "probed",
    "rounding",
]
