"""One file, looked at closely: what its header says, and how much of it fits a base. No torch."""

from loraloom.catalogue.inspecting.fitting import Block, Coverage, Fit, fit
from loraloom.catalogue.inspecting.inspection import Component, Hashes, Inspection, Key, Share, Spread, Training, Unused
from loraloom.catalogue.inspecting.listing import listing
from loraloom.catalogue.inspecting.reading import inspect

__all__ = [
    "Block",
    "Component",
    "Coverage",
    "Fit",
    "Hashes",
    "Inspection",
    "Key",
    "Share",
    "Spread",
    "Training",
    "Unused",
    "fit",
    "inspect",
    "listing",
]
