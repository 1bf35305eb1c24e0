"""The public face: few names, all of them there, none of them heavy."""

import subprocess
import sys

import pytest

import loraloom


def test_every_public_name_is_there_and_they_are_few():
    assert len(loraloom.__all__) <= 25
    for name in loraloom.__all__:
        assert getattr(loraloom, name) is not None


def test_a_name_that_is_not_there_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = loraloom.nothing


def test_importing_it_imports_no_torch():
    program = "import sys, loraloom; loraloom.ImageRequest, loraloom.Session, loraloom.read; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
