"""What the documentation shows is what the programs print."""

import re
import sys
from pathlib import Path

import pytest

from loraloom.cli import main

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("command", ["inspect delft", "check delft"])
def test_the_page_in_the_documentation_is_the_one_that_is_printed(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["loraloom", *command.split()])
    with pytest.raises(SystemExit, match="0"):
        main()
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    shown = re.search(rf"\$ loraloom {command}\n(.*?)\n```", (DOCS / "inspect.md").read_text("utf-8"), re.DOTALL)
    assert shown[1].splitlines() == printed
