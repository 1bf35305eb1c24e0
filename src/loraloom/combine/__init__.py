"""LoRAs -> LoRA: the same change in another form, and several changes as one."""

from loraloom.combine.combining import Combined, combine
from loraloom.combine.convert import TYPES, as_type, commonest_dtype, rounding
from loraloom.combine.distance import distances
from loraloom.combine.goal import Goal
from loraloom.combine.mixing import Module, Weights
from loraloom.combine.request import CombineRequest

__all__ = [
    "TYPES",
    "CombineRequest",
    "Combined",
    "Goal",
    "Module",
    "Weights",
    "as_type",
    "combine",
    "commonest_dtype",
    "distances",
    "rounding",
]
