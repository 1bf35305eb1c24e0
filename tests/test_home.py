"""An account without a home folder can do everything, and a name that begins with ~ is a name."""

import pwd
import tempfile
from pathlib import Path

import pytest

from loraloom import Session
from loraloom.cli import app
from loraloom.home import expanded, shortened
from loraloom.newfile import new_file
from loraloom.settings import Settings
from loraloom.settingsfile import settings_file


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a container starts a process under a number that no account has, without HOME."""

    def unknown(_: object) -> None:
        raise KeyError

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "LORALOOM_SETTINGS", "LORALOOM_LIBRARY_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("homeless")
def test_settings_and_library_need_no_home(tmp_path: Path) -> None:
    assert settings_file().is_relative_to(tmp_path / "temporary")
    assert "delft" in {item.name for item in Session().catalogue().items}
    assert Settings.save({"default_strength": 0.5}).default_strength == 0.5
    assert Settings.load().default_strength == 0.5


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("command", [["list"], ["settings"], ["inspect", "delft"]])
def test_commands_need_no_home(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    app(command, standalone_mode=False)
    assert capsys.readouterr().out


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("name", ["~/x", "~nobody_of_this_name/x", "~x"])
def test_a_path_that_leads_to_no_home_is_a_path(name: str) -> None:
    assert expanded(name) == Path(name)
    assert new_file(name, Settings()).name == "x.safetensors" or name == "~x"


def test_paths_below_home_are_said_shortly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shortened(tmp_path / "loras" / "x") == "~/loras/x"
    assert expanded("~/loras") == tmp_path / "loras"
    assert shortened(Path("/elsewhere/x")) == "/elsewhere/x"
