"""The command line as a user has it: what it prints, and the code that it leaves with."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.cli import main

sys.path.append(str(Path(__file__).parent.parent / "contract"))  # sd3.py

Ran = tuple[int, str, str]  # exit code, stdout, stderr


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `loraloom` with these arguments, in a folder of its own and on a wide screen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["loraloom", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
