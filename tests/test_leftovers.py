"""Laws of leftovers: what a killed process left goes with the next write there, what a living one writes stays."""

import os
import platform
import subprocess
import sys

import pytest
from PIL import Image

from loraloom import leftovers
from loraloom.atomic import replacing
from loraloom.generate.save import save_numbered
from loraloom.leftovers import aside, beside, forget_leftovers
from loraloom.settings import Settings

# Writes half of a file and half of a folder, says so, and is never done.
ENDLESS = """
import sys
from pathlib import Path
from loraloom.atomic import replacing
from loraloom.leftovers import aside
place = Path(sys.argv[1])
with replacing(place) as file, aside(place.parent) as folder:
    file.write_bytes(b"half")
    (Path(folder) / "half").write_bytes(b"half")
    print("half", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing `settings.toml`."""
    place = tmp_path / "there" / "settings.toml"
    place.parent.mkdir()
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"half\n"
    yield process, place
    process.kill()
    process.communicate()


def change_settings(place, monkeypatch):
    monkeypatch.setenv("LORALOOM_SETTINGS", str(place))
    Settings.save({"base": "nano"})


def save_picture(place, _):
    save_numbered(Image.new("RGB", (8, 8)), place.parent, "x", "x")


def write_any_file(place, _):
    with replacing(place.with_name("x")) as temporary:
        temporary.touch()


def make_aside(place, _):
    with aside(place.parent):
        pass


@pytest.mark.parametrize("next_write", [change_settings, save_picture, write_any_file, make_aside])
def test_what_a_killed_process_left_goes_with_the_next_write(writer, next_write, monkeypatch):
    process, place = writer
    monkeypatch.setattr(leftovers, "_looked", set())
    next_write(place, monkeypatch)
    assert len(hidden(place)) == 2  # it lives and writes
    process.kill()
    process.wait()
    monkeypatch.setattr(leftovers, "_looked", set())
    next_write(place, monkeypatch)
    assert hidden(place) == []


def test_a_process_of_the_same_number_is_another(tmp_path, monkeypatch):
    mine = beside(tmp_path / "x")
    mine.touch()
    began = leftovers._me(os.getpid()).rpartition("-")[2]
    older = mine.with_name(mine.name.replace(f"-{began}.", f"-{int(began, 16) - 60:x}."))
    older.touch()
    forget_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]
    monkeypatch.setattr(platform, "node", lambda: "another computer")
    leftovers._me.cache_clear()
    forget_leftovers(tmp_path)
    leftovers._me.cache_clear()
    assert list(tmp_path.iterdir()) == [mine]  # nobody here can tell; it goes after a day


def test_names_that_are_not_ours_stay(tmp_path):
    for name in (".mine.partial", ".loraloom-x", ".x.0123.partial", "x.partial", ".settings.toml.lock"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    forget_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def hidden(place):
    return [path.name for path in place.parent.iterdir() if path.name.startswith(".") and not path.name.endswith(".lock")]
