"""Laws of links: every name that leads to a file finds it, its own path first; links leave the library only where that is allowed."""

import os
import sys

import pytest

from loraloom import Session
from loraloom.catalogue import Catalogue, scan
from loraloom.errors import NotFound
from loraloom.settings import Settings


@pytest.fixture
def library(tmp_path):
    """`styles/neon` and `ink`, with links of every kind to them."""
    root = tmp_path / "loras"
    (root / "styles" / "deep").mkdir(parents=True)
    for below in ("ink", "styles/neon", "styles/deep/fog"):
        (root / f"{below}.safetensors").touch()
    (root / "00-best").symlink_to(root / "styles")
    (root / "00-first.safetensors").symlink_to(root / "ink.safetensors")
    (root / "zz").mkdir()
    (root / "zz" / "again").symlink_to(root / "00-best")
    return root


def test_every_name_of_a_file_finds_it_and_its_own_path_is_the_first(library):
    catalogue = Catalogue([library])
    assert [item.below for item in catalogue.items] == ["ink", "styles/deep/fog", "styles/neon"]
    neon, fog, ink = (catalogue.find(name) for name in ("styles/neon", "styles/deep/fog", "ink"))
    for item, names in (
        (neon, ("neon", "00-best/neon", "loras/00-best/neon", "zz/again/neon")),
        (fog, ("fog", "00-best/deep/fog", "zz/again/deep/fog")),
        (ink, ("00-first", "loras/00-first")),
    ):
        assert {catalogue.find(name, paths=False) for name in names} == {item}
    assert [catalogue.tag(item) for item in catalogue.items] == ["ink", "fog", "neon"]
    assert [item.below for item in catalogue.search("00-best")] == ["styles/deep/fog", "styles/neon"]


def test_a_folder_that_lies_in_another_gives_names_of_its_own(library):
    for folders in ([library, library / "styles"], [library / "styles", library]):
        catalogue = Catalogue(folders)
        assert len(catalogue.items) == 3
        for name in ("styles/neon", "neon", "deep/fog", "styles/deep/fog", "loras/styles/neon"):
            catalogue.find(name, paths=False)


def test_loops_of_links_end(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
        (folder / f"{folder.name}1.safetensors").touch()
        (folder / "self").symlink_to(folder)
        (folder / "up").symlink_to(tmp_path)
    (a / "b").symlink_to(b)
    (b / "a").symlink_to(a)
    (a / "round").symlink_to(a / "round")
    assert [item.name for item in scan([tmp_path])] == ["a1", "b1"]
    assert Catalogue([tmp_path]).find("a/b/b1", paths=False).name == "b1"


def test_links_of_links_do_not_multiply(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["loraloom.catalogue.scan"], "_LINKED", 500)
    for number in range(12):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "x.safetensors").touch()
        for other in range(12):
            (folder / f"to{other}").symlink_to(tmp_path / f"{other}")
    catalogue = Catalogue([tmp_path])
    assert len(catalogue.items) == 12
    assert "are reached through links" in catalogue.left_out[-1].reason


def test_a_link_that_is_broken_is_told_and_hides_nothing(library):
    (library / "gone.safetensors").symlink_to(library / "nothing.safetensors")
    (library / "drive").symlink_to(library / "unplugged")
    (library / "ink.png").symlink_to(library / "no.png")
    catalogue = Catalogue([library])
    assert len(catalogue.items) == 3
    assert {(entry.place.name, entry.reason) for entry in catalogue.left_out} == {
        ("gone", "a link that leads to nothing"),
        ("drive", "a link that leads to nothing"),
    }
    with pytest.raises(NotFound, match='"gone": in the library this is a link that leads to nothing'):
        catalogue.find("gone", paths=False)


def test_links_out_of_the_library_are_told_and_followed_where_that_is_allowed(library, tmp_path, monkeypatch):
    outside = tmp_path / "drive"
    outside.mkdir()
    (outside / "far.safetensors").touch()
    (outside / "far.json").write_text('{"activation text": "zvz"}')
    (library / "drive").symlink_to(outside)
    (library / "one.safetensors").symlink_to(outside / "far.safetensors")
    closed = Catalogue([library])
    assert {entry.place.below for entry in closed.left_out} == {"drive", "one"}
    for name in ("drive/far", "far", "one"):
        with pytest.raises(NotFound):
            closed.find(name, paths=False)
    with pytest.raises(NotFound, match=r"leads out of the folders of the library; to follow it, .* follow_links") as error:
        closed.find("one", paths=False)
    assert str(tmp_path) not in str(error.value)
    monkeypatch.setenv("LORALOOM_FOLLOW_LINKS", "1")
    for catalogue in (
        Catalogue([library], follow_links=True),
        Session(lora_folders=[library]).catalogue(),
        Session(Settings(), lora_folders=[library], follow_links=True).catalogue(),
    ):
        far = catalogue.find("drive/far", paths=False)
        assert catalogue.find("one", paths=False) is catalogue.find("far", paths=False) is far
        assert catalogue.facts(far).triggers in ((), ("zvz",))  # of `one`, the first in order, no notes lie beside
        assert catalogue.left_out == ()
    assert catalogue.may_show(outside / "far.json")
    assert not closed.may_show(outside / "far.json")


def test_hard_links_of_one_name_are_no_two_files(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "x.safetensors").write_text("x")
    os.link(tmp_path / "a" / "x.safetensors", tmp_path / "b" / "x.safetensors")
    catalogue = Catalogue([tmp_path])
    assert len(catalogue.items) == 2
    assert catalogue.find("x", paths=False).below == "a/x"
    (tmp_path / "b" / "x.safetensors").unlink()
    (tmp_path / "b" / "x.safetensors").write_text("x")
    catalogue.rescan()
    with pytest.raises(NotFound, match="the name of 2 LoRAs"):
        catalogue.find("x", paths=False)


def test_a_file_system_that_takes_both_cases_for_one_gives_one_file(tmp_path, monkeypatch):
    """As it looks there: one folder under two spellings, of which each real path is another text."""
    for folder in ("Loras", "loras"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ink.safetensors").touch()
    assert len(scan([tmp_path / "Loras", tmp_path / "loras"])) == 2
    monkeypatch.setattr("os.path.samefile", lambda one, other: one.lower() == other.lower())
    [item] = scan([tmp_path / "Loras", tmp_path / "loras"])
    assert item.names[:3] == ("ink", "ink", "Loras/ink")
    assert "loras/ink" in item.names


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_hides_nothing_else(library):
    (library / "styles" / "deep").chmod(0)
    try:
        catalogue = Catalogue([library])
        assert [item.below for item in catalogue.items] == ["ink", "styles/neon"]
        assert "cannot be read" in catalogue.left_out[0].reason
    finally:
        (library / "styles" / "deep").chmod(0o700)
