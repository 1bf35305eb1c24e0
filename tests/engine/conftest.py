"""The pipeline of the engine's tests: nano, made once for each test file."""

import sys
from pathlib import Path

import pytest

from loraloom.bases.nano.model import load

sys.path.append(str(Path(__file__).parent.parent / "contract"))  # support.py, sd3.py


@pytest.fixture(scope="module")
def pipeline():
    return load()
