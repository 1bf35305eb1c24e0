"""Every fenced command of README and docs runs, in order, in an empty folder, with what the installation brings.

A block that cannot run has `<!-- not run: the reason -->` on the line before it. Long jobs are scaled down by the options in SHORT.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from loraloom.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *(f"docs/{name}.md" for name in ("combine", "generate", "inspect", "library", "page", "prompts", "server")))
# What makes a command short; the command itself says nothing of it.
SHORT = {"generate": ("--steps", "2"), "grid": ("--steps", "2"), "train": ("--steps", "2", "--batch", "1")}
_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)\n```", re.DOTALL)


def blocks(page):
    """(kind, body) of each block that is to be run."""
    text = (ROOT / page).read_text("utf-8")
    assert text.count("```") == 2 * len(_BLOCK.findall(text))
    return [(found["kind"], found["body"]) for found in _BLOCK.finditer(text) if not found["reason"]]


def commands(body):
    """The lines that call the program, without the marks of a shell; others are what it prints, or prompts."""
    lines = body.replace("\\\n", " ").splitlines()
    mark = "$ " if any(line.startswith("$ ") for line in lines) else ""  # where there is one, the rest is what is printed
    calls = (line.removeprefix(mark) for line in lines if line.startswith(f"{mark}loraloom "))
    return [shlex.split(call, comments=True)[1:] for call in calls]


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, and settings of nobody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORALOOM_SETTINGS", str(tmp_path.parent / f"{tmp_path.name}.toml"))
    return tmp_path


def call(arguments):
    """The exit code of the command in this process, and what it said."""
    said = io.StringIO()
    sys.argv = ["loraloom", *arguments]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main()
    except SystemExit as leaving:
        return leaving.code or 0, said.getvalue()
    return 0, said.getvalue()


def run(page, kind, body, caller=call):
    if kind == "python":
        exec(compile(body, page, "exec"), {"print": lambda *_: None})
    for arguments in commands(body) if not kind else []:
        code, said = caller([*arguments, *SHORT.get(arguments[0], ())])
        assert code == 0, f"{page}: loraloom {shlex.join(arguments)}\n{said}"


def test_a_reader_of_the_readme_can_type_every_command(empty, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    for kind, body in blocks("README.md"):
        run("README.md", kind, body)
    assert {"mine", "mixed", "small", "blue"} <= {path.stem for path in (empty / "loras").iterdir()}


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs(page, empty):
    """By the installed program, a process each."""

    def program(arguments):
        launch = [sys.executable, "-c", "from loraloom.cli import main; main()"]
        done = subprocess.run([*launch, *arguments], capture_output=True, text=True, cwd=empty)
        return done.returncode, done.stdout + done.stderr

    for kind, body in blocks(page):
        run(page, kind, body, program)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_shown_is_one_of_the_program(page):
    """Its name and its options, by the program's own parser, for those that are not run too."""
    import typer

    from loraloom.cli import app

    known = typer.main.get_command(app).commands
    text = (ROOT / page).read_text("utf-8")
    for found in _BLOCK.finditer(text):
        for name, *arguments in commands(found["body"]) if not found["kind"] else []:
            options = {option for parameter in known[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
            assert {word.partition("=")[0] for word in arguments if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)} <= options, (page, name)
