"""Folders of LoRA files: what is in them, and which file a name means. Headers only, no torch."""

from loraloom.catalogue.catalogue import Catalogue
from loraloom.catalogue.facts import Facts
from loraloom.catalogue.finish import Finished, finish, own_strength
from loraloom.catalogue.scan import Item, LeftOut, scan

__all__ = ["Catalogue", "Facts", "Finished", "Item", "LeftOut", "finish", "own_strength", "scan"]
