"""Laws of settings: the environment before the file before the defaults; a mistake names its place."""

import os
from pathlib import Path

import pytest

from loraloom.errors import SettingsError
from loraloom.settings import Settings


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("LORALOOM_SETTINGS", str(path))
    return path


def test_defaults_need_no_file():
    settings = Settings.load()
    assert (settings.lora_folders, settings.default_strength, settings.base) == ((), 1.0, "tiny")


def test_the_environment_counts_before_the_file(file, monkeypatch):
    file.write_text('lora_folders = ["/a", "~/b"]\nbase = "nano"\ndefault_strength = 0.5\n')
    monkeypatch.setenv("LORALOOM_BASE", "mine")
    settings = Settings.load()
    assert (settings.lora_folders, settings.base, settings.default_strength) == ((Path("/a"), Path.home() / "b"), "mine", 0.5)
    monkeypatch.setenv("LORALOOM_LORA_FOLDERS", os.pathsep.join(["/x", "/y"]))
    assert Settings.load().lora_folders == (Path("/x"), Path("/y"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bsae = 'x'", "there is no option 'bsae'; did you mean \"base\"?"),
        ("default_strength = 'much'", "default_strength: should be a valid number"),
        ("base = ", "cannot be read as TOML"),
    ],
)
def test_a_mistake_names_the_setting_and_the_file(file, text, message):
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        Settings.load()
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_the_librarys_own_folders_and_the_local_one_come_by_themselves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path("loras") not in Settings.load().library
    (tmp_path / "loras").mkdir()
    assert Settings.load().library[-1] == Path("loras")
