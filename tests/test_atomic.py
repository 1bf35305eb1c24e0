"""A name that something has stays its own: whoever finishes later keeps the work under another name, and says which."""

import errno
import importlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from loraloom import Session, converting, editing
from loraloom.atomic import give_name, refuse_existing, replacing, take_name
from loraloom.combine import CombineRequest, ResizeRequest
from loraloom.dialects import publishing
from loraloom.errors import Taken
from loraloom.generate.save import save_png

THEIRS = b"somebody else's"


@pytest.fixture(params=["links", "no links"])
def links(request, monkeypatch):
    """With hard links, and on a file system that has none."""

    def refuse(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("links")
def test_of_many_that_want_one_name_one_gets_it_and_nothing_is_lost(tmp_path):
    def write(number):
        try:
            with replacing(tmp_path / "x.bin", overwrite=False) as temporary:
                temporary.write_text(str(number))
        except Taken as error:
            return error.kept
        return tmp_path / "x.bin"

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(write, range(24)))
    assert sorted(int(path.read_text()) for path in paths) == list(range(24))
    assert {path.name for path in tmp_path.iterdir()} == {"x.bin", *(f"x-{number}.bin" for number in range(2, 25))}


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("there", ["file", "folder", "empty folder", "broken link"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_whatever_has_the_name_keeps_it(tmp_path, there, kind):
    finished, path = tmp_path / "finished", tmp_path / "x"
    for each, what in ((finished, kind), (path, there)):
        if what == "file":
            each.write_bytes(THEIRS)
        elif what == "broken link":
            each.symlink_to(tmp_path / "nowhere")
        else:
            each.mkdir()
            if what == "folder":
                (each / "inside").write_bytes(THEIRS)
    before = path.lstat()
    with pytest.raises(FileExistsError):
        take_name(finished, path)
    assert finished.exists()
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    with pytest.raises(Taken, match=r"x is there already and was not touched.*kept as x-2") as caught:
        give_name(finished, path)
    assert caught.value.kept == tmp_path / "x-2"
    assert (tmp_path / "x-2").exists()
    assert not finished.exists()
    with pytest.raises(Taken, match="x is there already"):
        refuse_existing(path, overwrite=False)


def appears(monkeypatch, module, function, path):
    """Another program's file, at the last moment before the new one gets its name."""
    original = getattr(module, function)

    def late(*values, **named):
        found = original(*values, **named)
        path.write_bytes(THEIRS)
        return found

    monkeypatch.setattr(module, function, late)


EXTRACT, RESIZE = CombineRequest(mix="<lora:ink:1>"), ResizeRequest(rank=1)


@pytest.mark.parametrize(
    "command",
    [
        lambda session, ink, out: session.convert(ink, out),
        lambda session, _, out: session.extract(EXTRACT, out),
        lambda session, ink, out: session.resize(ink, RESIZE, out),
        lambda _, ink, out: editing.edit(ink, out, changes={"title": "x"}),
    ],
    ids=["convert", "extract", "resize", "edit"],
)
def test_a_file_that_appears_while_a_network_is_made_stays(tmp_path, make_lora, monkeypatch, command):
    ink, out = make_lora(tmp_path / "loras" / "ink.safetensors"), tmp_path / "new" / "x.safetensors"
    appears(monkeypatch, publishing, "_compare", out)
    appears(monkeypatch, importlib.import_module("loraloom.rewrite"), "_compare", out)
    with pytest.raises(Taken, match=r"x\.safetensors is there already.*kept as x-2\.safetensors") as caught:
        command(Session(lora_folders=[ink.parent]), ink, out)
    assert out.read_bytes() == THEIRS
    assert converting.convert(caught.value.kept, tmp_path / "again.safetensors").modules
    assert {path.name for path in out.parent.iterdir()} == {"x.safetensors", "x-2.safetensors"}


def test_a_folder_that_appears_while_a_network_is_made_stays(tmp_path, make_lora, monkeypatch):
    ink, out = make_lora(tmp_path / "ink.safetensors"), tmp_path / "new" / "x"
    original = publishing._compare

    def late(*values):
        original(*values)
        out.mkdir()

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "_compare", late)
        with pytest.raises(Taken, match="kept as x-2"):
            converting.convert(ink, out, dialect="peft-folder")
    assert not list(out.iterdir())
    assert converting.convert(out.with_name("x-2"), tmp_path / "again.safetensors").modules


def test_a_picture_is_kept_where_another_has_its_name(tmp_path):
    (tmp_path / "a.png").write_bytes(THEIRS)
    with pytest.raises(Taken) as caught:
        save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", "the recipe")
    assert Image.open(caught.value.kept).info["parameters"] == "the recipe"
    assert (tmp_path / "a.png").read_bytes() == THEIRS
    assert Path(caught.value.kept).name == "a-2.png"
