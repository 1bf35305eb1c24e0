"""Base models: what their modules are called. A family is one folder here and one name in `BASES`; the README says how."""

from loraloom.bases.base import Base, Layer, Target
from loraloom.bases.nano.layers import NANO
from loraloom.bases.sd1.layers import SD1
from loraloom.bases.tiny.layers import TINY

BASES: tuple[Base, ...] = (TINY, SD1, NANO)

__all__ = ["BASES", "NANO", "SD1", "TINY", "Base", "Layer", "Target"]
