"""Names in files: reading any dialect, writing one. A dialect is one file here and one name in `DIALECTS`; the README says how."""

from loraloom.bases.detect import detect
from loraloom.dialects.base import Dialect
from loraloom.dialects.matching import DIALECTS, Match, by_name, match
from loraloom.dialects.reading import read
from loraloom.dialects.writing import refuse_unwritable, write

__all__ = ["DIALECTS", "Dialect", "Match", "by_name", "detect", "match", "read", "refuse_unwritable", "write"]
