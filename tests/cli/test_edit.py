"""`loraloom edit`: the path on stdout, each change before and after beside it, exit codes as written, no torch."""

import json
import os
import subprocess
import sys

import pytest

from loraloom.tensorfile import Header


@pytest.fixture
def loraloom(command, tmp_path, make_lora):
    """The command line with a LoRA in `./loras`, and a pickle."""
    make_lora(tmp_path / "loras" / "ink.safetensors", seed=1, metadata={"modelspec.title": "old\x1b[31m", "ss_epoch": "3"})
    (tmp_path / "pickle.pt").write_bytes(b"PK\3\4" + b"x" * 40)
    return command


def metadata(path="loras/ink.safetensors"):
    return Header.read(path).metadata


def test_it_prints_what_changed_before_and_after(loraloom):
    options = ("--title", "New", "--author", "me", "--trigger", " zvz, flat,zvz ", "--set", "x=a=b", "--unset", "ss_epoch")
    code, out, err = loraloom("edit", "loras/ink.safetensors", *options)
    assert (code, out) == (0, "loras/ink.safetensors\n")
    for line in (
        "modelspec.title: old�[31m → New",
        "modelspec.author: – → me",
        "modelspec.trigger_phrase: – → zvz, flat",
        "x: – → a=b",
        "ss_epoch: 3 → –",
    ):
        assert line in err
    assert (metadata()["x"], metadata()["modelspec.trigger_phrase"], "ss_epoch" in metadata()) == ("a=b", "zvz, flat", False)
    code, out, err = loraloom("edit", "ink", "--author", "", "--json")
    document = json.loads(out)
    assert (code, err, document["changes"]) == (0, "", [{"key": "modelspec.author", "before": "me", "after": None}])
    assert "already" in loraloom("edit", "ink", "--title", "New")[2]


def test_it_leaves_a_part(loraloom):
    code, out, err = loraloom("edit", "ink", "./small.safetensors", "--only", "te, mid")
    assert (code, out) == (0, "small.safetensors\n")
    assert "modules: text_encoder 12, unet 12 stay; unet 36 left out" in err
    assert loraloom("check", "small.safetensors")[0] == 0


def test_alone_it_shows_the_metadata(loraloom):
    code, out, _ = loraloom("edit", "ink")
    assert code == 0
    assert "modelspec.title = old�[31m" in out.splitlines()
    assert json.loads(loraloom("edit", "ink", "--json")[1]) == metadata()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("ink", "--set", "title"), 2, "--set takes KEY=VALUE"),
        (("ink", "--set", "=x"), 2, "--set takes KEY=VALUE"),
        (("ink", "--title", "a", "--set", "modelspec.title=b"), 2, "modelspec.title is given twice"),
        (("ink", "--set", "modelspec.date=soon"), 2, "is a date"),
        (("ink", "--unset", "ss_epch"), 2, 'did you mean "ss_epoch"'),
        (("ink", "--only", "unett"), 2, 'did you mean "unet"'),
        (("ink", "--only", ""), 2, "is no part"),
        (("ink", "--only", "te2"), 5, "nothing would stay"),
        (("ink", "x.safetensors"), 2, "nothing is to be changed"),
        (("ink", "loras/ink.safetensors", "--title", "x"), 6, "is there already"),
        (("inc", "--title", "x"), 3, 'did you mean "ink"'),
        (("pickle.pt", "--title", "x"), 4, "loraloom convert"),
        (("delft", "--title", "x"), 6, "came with loraloom"),
    ],
)
def test_errors_are_a_message_and_an_exit_code(loraloom, tmp_path, arguments, code, text):
    before = (tmp_path / "loras" / "ink.safetensors").read_bytes()
    found, out, err = loraloom("edit", *arguments)
    assert (found, out) == (code, "")
    assert text in err
    assert "Traceback" not in err
    assert (tmp_path / "loras" / "ink.safetensors").read_bytes() == before
    assert not list(tmp_path.rglob("x.safetensors"))


@pytest.mark.usefixtures("loraloom")
def test_it_never_imports_torch(tmp_path):
    program = """
import sys
from loraloom.cli import main
for arguments in (["loras/ink.safetensors", "--title", "x"], ["loras/ink.safetensors", "y.safetensors", "--only", "te"], ["y.safetensors"]):
    sys.argv = ["loraloom", "edit", *arguments]
    try:
        main()
    except SystemExit as leaving:
        assert not leaving.code
heavy = [name for name in ("torch", "diffusers", "transformers", "peft") if name in sys.modules]
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
