"""Laws of new files: a bare name lies in the library, a path exactly where it says, and every name has an ending."""

import os
from pathlib import Path

import pytest

from loraloom.errors import SettingsError
from loraloom.newfile import new_file, writable_folders
from loraloom.settings import Settings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """In a folder of its own, with one folder of LoRAs that is there and one that is not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "here").mkdir()
    return Settings(lora_folders=(tmp_path / "gone" / "x", tmp_path / "mine"))


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("mixed", "mine/mixed.safetensors"),
        ("mixed.safetensors", "mine/mixed.safetensors"),
        ("mixed.SafeTensors", "mine/mixed.SafeTensors"),
        ("v1.5", "mine/v1.5.safetensors"),
        ("odd: name", "mine/odd: name.safetensors"),
        ("old.ckpt", "mine/old.ckpt"),  # refused by whoever writes it, by its name
    ],
)
def test_a_bare_name_lies_in_the_first_folder_that_can_be_written_into(settings, tmp_path, output, path):
    assert new_file(output, settings) == tmp_path / path


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("./mixed", "mixed.safetensors"),
        ("a/b.safetensors", "a/b.safetensors"),
        ("../x", "../x.safetensors"),
        ("/a/b", "/a/b.safetensors"),
    ],
)
def test_a_path_lies_where_it_says(settings, output, path):
    assert new_file(output, settings) == Path(path)
    assert new_file("~/x", settings) == Path.home() / "x.safetensors"


@pytest.mark.parametrize("output", [".", "here", "here/", "new/", "./"])
def test_a_folder_holds_the_usual_file_or_is_an_error_that_says_what_to_write(settings, output):
    assert new_file(output, settings, usual="zvz.safetensors") == Path(output) / "zvz.safetensors"
    with pytest.raises(SettingsError, match=r"is a folder; say what the new file is called: .*NAME\.safetensors"):
        new_file(output, settings)


@pytest.mark.parametrize("output", ["", "  "])
def test_an_empty_name_is_an_error(settings, output):
    with pytest.raises(SettingsError, match="the new file has no name"):
        new_file(output, settings)


def test_loras_here_is_a_folder_of_the_library_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert new_file("x", Settings(lora_folders=())) == Path("loras/x.safetensors")
    assert writable_folders(Settings(lora_folders=()), [tmp_path]) == (Path("loras"), tmp_path)
    assert not Path("loras").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_without_any_folder_that_can_be_written_into_a_bare_name_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o500)
    try:
        assert new_file("x", Settings(lora_folders=())) == Path("x.safetensors")
    finally:
        tmp_path.chmod(0o700)
