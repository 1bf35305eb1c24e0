"""Writes the measured tables into docs/interchange.md."""

import sys
import tempfile
from pathlib import Path

from tools.interchange.tables import DOCS, filled, measured

with tempfile.TemporaryDirectory() as folder:
    text = filled(DOCS.read_text("utf-8"), measured(Path(folder)))
DOCS.write_text(text, "utf-8")
print(DOCS, file=sys.stderr)
