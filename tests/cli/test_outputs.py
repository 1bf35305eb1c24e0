"""Laws of every option that names what a command writes: a name is the place it says, and one that cannot be is a sentence.

A separator at the end means a folder, so nothing is ever written beside it.
"""

import os

import pytest
from PIL import Image

EXTRACT, RESIZE = ["extract", "<lora:ink:1>"], ["resize", "ink", "--rank", "1"]
TRAIN = ["train", "pictures", "--trigger", "zvz", "--base", "nano"]
# What is called, with the name of its output last; whether a folder is a place for it, and the ending of a file.
OUTPUTS = {
    "generate --output": (["generate", "a", "--steps", "1", "-o"], True, ".png"),
    "grid --output": (["grid", "a", "--steps", "1", "-o"], True, ".png"),
    "train --output": ([*TRAIN, "--steps", "1", "--batch", "1", "--output"], True, ".safetensors"),
    "train --save-config": ([*TRAIN, "--dry-run", "--save-config"], False, ".toml"),
    "example folder": (["example"], True, ""),
    "convert output": (["convert", "ink"], False, ".safetensors"),
    "convert output, a folder": (["convert", "ink", "--dialect", "peft-folder"], True, ""),
    "edit output": (["edit", "ink", "--title", "Ink"], False, ".safetensors"),
    "extract output": (EXTRACT, False, ".safetensors"),
    "extract --plot": ([*EXTRACT, "./new", "--plot"], False, ".png"),
    "resize output": (RESIZE, False, ".safetensors"),
    "resize --plot": ([*RESIZE, "./new", "--plot"], False, ".png"),
}
CALLED = {"output", "plot", "save_config", "folder"}  # parameters that say where something is written


@pytest.fixture
def written(command, make_lora, monkeypatch, tmp_path):
    """Runs a command; its exit code, what it said, and what is new: files, and folders that are empty."""
    monkeypatch.setenv("LORALOOM_BASE", "nano")
    make_lora(tmp_path / "loras" / "ink.safetensors", rank=2)
    (tmp_path / "pictures").mkdir()
    for shade in range(2):
        Image.new("RGB", (64, 64), (shade * 90, 0, 0)).save(tmp_path / "pictures" / f"{shade}.png")
    for folder in ("there", "here"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("x")

    def files():
        return {os.path.relpath(path, tmp_path) for path in tmp_path.rglob("*") if path.is_file()}

    def run(*arguments):
        before = files()
        code, out, err = command(*arguments)
        return code, out + err, files() - before - {"new.safetensors"}

    return run


def test_every_parameter_that_says_where_something_is_written_is_looked_at():
    import typer

    from loraloom.cli import app

    known = {(name, parameter.name) for name, each in typer.main.get_command(app).commands.items() for parameter in each.params}
    shown = {(words.split()[0], words.split()[1].rstrip(",").lstrip("-").replace("-", "_")) for words in OUTPUTS}
    assert shown == {(name, parameter) for name, parameter in known if parameter in CALLED}


@pytest.mark.parametrize("output", OUTPUTS)
def test_no_name_and_names_that_cannot_be_are_sentences(written, output):
    call, _, ending = OUTPUTS[output]
    for name in ("", " ", f"{'n' * 300}{ending}", f"file/x{ending}", "file/"):
        code, said, new = written(*call, name)
        assert code > 1, (name, said)  # 1 is a bug
        assert "loraloom: " in said
        assert not new, name


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_folder_holds_what_is_written_or_is_an_error_that_says_what_to_write(written, output):
    call, folders, ending = OUTPUTS[output]
    for name in ("made/", f"x{ending or '.png'}/", "there", "here/", "."):
        code, said, new = written(*call, name)
        assert code == (0 if folders else 2) or (code == 6 and "is there already" in said), (name, said)
        assert bool(new) == (code == 0), (name, said)
        assert name == "." or all(path.startswith(name.rstrip("/") + "/") for path in new)
        assert folders or f"{name.rstrip('/')}/NAME{ending}".removeprefix("./") in said


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_folders_of_a_name_are_made(written, output):
    call, _, ending = OUTPUTS[output]
    code, said, new = written(*call, f"no/such/x{ending}")
    assert code == 0, said
    assert new
    assert all(path.startswith("no/such/") for path in new)
