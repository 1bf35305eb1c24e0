"""The session: settings, catalogue, opened bases and parsed files together. The only room that knows all the others.

`Session` says what can be asked of it. What it keeps is in `library.py` (names and tags), `bases.py` and `networks.py`; each kind of
job is a file of plain functions over what is kept: `drawing.py`, `sheets.py`, `mixes.py`, `files.py`, `training.py`.
"""

from loraloom.session.drawing import Explained
from loraloom.session.recent import Recent
from loraloom.session.session import Session
from loraloom.session.sheets import Sheet

__all__ = ["Explained", "Recent", "Session", "Sheet"]
