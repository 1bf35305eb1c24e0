"""Helpers of other folders: one adapter of every type, random networks."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "contract"))  # cases.py, support.py
