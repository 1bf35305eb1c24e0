"""Every fenced command of README and docs runs, in order, in an empty folder, with what the installation brings.

A block that cannot run has `<!-- not run: the reason -->` on the line before it. Long jobs are scaled down by the options in SHORT.
"""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from loraloom.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if "```" in path.read_text("utf-8")))
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


@contextlib.contextmanager
def served(folder):
    """The address of a server of its own in this folder."""
    launch = [sys.executable, "-c", "from loraloom.cli import main; main()", "serve", "--port", "0"]
    with subprocess.Popen(launch, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder) as process:
        try:
            yield re.search(r"http://\S+", process.stdout.readline()).group()
        finally:
            process.kill()


def asked(address, line, ids):
    """What a line with curl answers. `ID` is that of the last job, or of its first picture; a job of pictures has enough of them to be
    interrupted."""
    for shown, meant in {
        "http://127.0.0.1:7860": address,
        "/pictures/ID": f"/pictures/{ids.get('picture')}",
        "/ID": f"/{ids.get('job')}",
        '"pictures": 2': '"pictures": 100',
    }.items():
        line = line.replace(shown, meant)
    endless = "/events" in line
    line = line.replace("curl ", f"curl --fail-with-body --max-time {3 if endless else 600} ", 1)
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True)
    assert done.returncode == (28 if endless else 0), (line, done.stdout, done.stderr)  # 28: curl's own limit
    return done.stdout


def followed(address, job):
    """The ids of a new job and of its first picture, once it has one or is over."""
    while job["state"] in ("queued", "running") and not job.get("pictures"):
        time.sleep(0.05)
        job = requests.get(f"{address}/api/v1/jobs/{job['id']}", timeout=60).json()
    return {"job": job["id"]} | ({"picture": job["pictures"][0]["id"]} if job.get("pictures") else {})


@pytest.mark.long
@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "jq", "base64"))), reason="this system lacks curl, jq or base64")
def test_every_request_of_the_page_of_the_server_is_answered(empty):
    ids = {}
    with served(empty) as address:
        for line in "\n".join(body for _, body in blocks("docs/server.md")).replace("\\\n", " ").splitlines():
            answer = asked(address, line, ids)
            if " -d " in line and answer.startswith("{") and {"id", "state"} <= json.loads(answer).keys():
                ids |= followed(address, json.loads(answer))
