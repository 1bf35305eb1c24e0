"""Base models: what their modules are called. A family is one folder here and one name in `BASES`; the README says how."""

from loraloom.bases.base import Base, Layer, Target
from loraloom.bases.nano.layers import NANO
from loraloom.bases.nanov.layers import NANOV
from loraloom.bases.nanoxl.layers import NANOXL
from loraloom.bases.sd1.layers import SD1
from loraloom.bases.sd2.layers import SD2
from loraloom.bases.sdxl.layers import SDXL
from loraloom.bases.tiny.layers import TINY

BASES: tuple[Base, ...] = (TINY, SD1, SD2, SDXL, NANO, NANOV, NANOXL)

__all__ = ["BASES", "NANO", "NANOV", "NANOXL", "SD1", "SD2", "SDXL", "TINY", "Base", "Layer", "Target"]
