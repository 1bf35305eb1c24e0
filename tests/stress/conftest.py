"""Helpers of other folders: random networks, mixes as prompts write them."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent.parent / folder) for folder in ("contract", "engine", "web")]  # support.py, running.py, live.py
