"""Laws of settings: the environment before the file before the defaults; a mistake names its place."""

import os
import re
from pathlib import Path

import pytest
from filelock import FileLock

from loraloom.errors import SettingsError, WriteFailed
from loraloom.settings import Settings


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("LORALOOM_SETTINGS", str(path))
    return path


def lock(file):
    """Beside the settings, empty; it stays, as who waits for it has it open."""
    return file.with_name(f".{file.name}.lock")


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


def test_a_change_keeps_what_it_does_not_change(file):
    file.write_text('# mine\nbase = "nano"  # small\n\ndefault_strength = 0.5\n')
    settings = Settings.save({"lora_folders": [Path("/a"), "~/b"], "default_strength": "0.7", "auto_apply_triggers": -1})
    assert settings == Settings.load()
    assert (settings.lora_folders, settings.default_strength, settings.auto_apply_triggers) == ((Path("/a"), Path.home() / "b"), 0.7, -1)
    assert file.read_text().startswith('# mine\nbase = "nano"  # small\n\ndefault_strength = 0.7\n')
    assert Settings.save({"default_strength": None}).default_strength == 1.0
    assert "default_strength" not in file.read_text()
    assert set(file.parent.iterdir()) == {file, lock(file)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bsae": "x"}, "there is no option 'bsae'; did you mean \"base\"?"),
        ({"bsae": None}, "there is no option 'bsae'"),
        ({"default_strength": "much"}, "default_strength: should be a valid number"),
        ({"auto_apply_triggers": -2}, "auto_apply_triggers: should be greater than or equal to -1"),
        ({"base": "nano", "loader": "peft"}, "loader: should be"),
        ({"library_index": 5}, "library_index"),
    ],
)
def test_a_change_without_meaning_changes_nothing(file, changes, message):
    file.write_text('base = "nano"\n')
    with pytest.raises(SettingsError, match=re.escape(message)):
        Settings.save(changes)
    assert file.read_text() == 'base = "nano"\n'


def test_what_the_environment_fixes_cannot_be_changed(file, monkeypatch):
    monkeypatch.setenv("loraloom_base", "nano")
    monkeypatch.setenv("LORALOOM_LOADER", "")
    assert Settings.fixed() == ("base", "library_index")
    with pytest.raises(SettingsError, match=r"base: fixed by the environment \(LORALOOM_BASE\)"):
        Settings.save({"base": "tiny"})
    assert not file.exists()
    assert Settings.save({"default_strength": 2}).base == "nano"


def test_a_bad_line_can_be_mended_and_taken_out(file):
    file.write_text('default_strength = "much"\nbsae = "x"\n')
    with pytest.raises(SettingsError, match="bsae"):
        Settings.save({"default_strength": 0.5})
    assert Settings.save({"default_strength": 0.5, "bsae": None}).default_strength == 0.5
    file.write_text("base = ")
    with pytest.raises(SettingsError, match="cannot be read as TOML"):
        Settings.save({"base": "tiny"})
    assert file.read_text() == "base = "


def test_a_disk_that_says_no_changes_nothing(file, monkeypatch):
    file.write_text('base = "nano"\n')

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(WriteFailed, match="No space left"):
            Settings.save({"base": "tiny"})
    assert file.read_text() == 'base = "nano"\n'
    assert set(file.parent.iterdir()) == {file, lock(file)}
    monkeypatch.setenv("LORALOOM_SETTINGS", str(file / "below" / "a-file.toml"))
    with pytest.raises((WriteFailed, SettingsError)):
        Settings.save({"base": "tiny"})


def test_a_linked_file_stays_a_link_and_keeps_its_permissions(file, tmp_path):
    real = tmp_path / "dotfiles" / "s.toml"
    real.parent.mkdir()
    real.write_text("")
    real.chmod(0o640)
    file.symlink_to(real)
    Settings.save({"base": "nano"})
    assert file.is_symlink()
    assert real.read_text() == 'base = "nano"\n'
    assert real.stat().st_mode & 0o777 == 0o640


def test_who_waits_too_long_for_the_turn_is_told(file, monkeypatch):
    monkeypatch.setattr("loraloom.settingsfile._TURN_SECONDS", 0.1)
    with FileLock(lock(file)), pytest.raises(WriteFailed, match=r"another program has been changing them for 0\.1 seconds; try again"):
        Settings.save({"base": "nano"})
    assert not file.exists()
    assert Settings.save({"base": "nano"}).base == "nano"
