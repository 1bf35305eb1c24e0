"""Laws of the command: every field of a job is an option, and what happened is said in words, JSON and exit codes."""

import importlib
import json
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from loraloom.bases import NANO
from loraloom.train import TrainConfig, resolve, train

command = importlib.import_module("loraloom.cli.train")  # the package has a function of this name


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, nano: Any, tmp_path: Path) -> Callable[..., Any]:
    """Runs the command with a session that trains on nano."""
    asked: list[bool] = []

    class Session:
        def train(self, config: TrainConfig, progress: Any, note: Any) -> Any:
            return train(config, nano, NANO, progress=progress, note=note, stop=lambda: bool(asked))

        def resolve(self, config: TrainConfig) -> Any:
            return resolve(config, NANO)

    monkeypatch.setitem(sys.modules, "loraloom.session", SimpleNamespace(Session=Session))
    app = typer.Typer()
    app.command()(command.train)

    def run(*words: str, stop: bool = False) -> Any:
        asked[:] = [True] * stop
        return CliRunner().invoke(app, [*words, "--base", "nano", "--output", str(tmp_path / "o.safetensors"), "--steps", "3"])

    return run


def test_a_run_says_what_came_out(cli: Callable[..., Any], pictures: Path, tmp_path: Path) -> None:
    result = cli(str(pictures), "--trigger", "zvz", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["path"] == str(tmp_path / "o.safetensors")
    assert found["steps"] == 3
    assert "have no caption" in result.stderr
    text = cli(str(pictures), "--overwrite")
    assert f"{tmp_path / 'o.safetensors'}: " in text.stdout
    assert "3 steps, loss" in text.stdout


def test_an_interrupted_run_ends_with_130_and_goes_on(cli: Callable[..., Any], pictures: Path) -> None:
    stopped = cli(str(pictures), stop=True)
    assert stopped.exit_code == 130
    assert "stopped after step 1 of 3; nothing is lost" in " ".join(stopped.stderr.split())
    assert cli(str(pictures), "--resume").exit_code == 0


def test_options_reach_the_job(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    jobs: list[TrainConfig] = []
    monkeypatch.setattr(command, "run", lambda config, **_: jobs.append(config))
    app = typer.Typer()
    app.command()(command.train)
    words = "--lr 1e-3 --text-encoder-lr 1e-4 --sample one --sample two --conv-rank 4 --tucker --type lora --license MIT"
    assert CliRunner().invoke(app, [str(pictures), *words.split()]).exit_code == 0
    config = jobs[0]
    assert (config.learning_rate, config.text_encoder_learning_rate) == (1e-3, 1e-4)
    assert (config.sample_prompts, config.conv_rank, config.tucker, config.license) == (("one", "two"), 4, True, "MIT")


def test_every_field_of_a_job_is_an_option() -> None:
    assert (
        typing.get_type_hints(command.train).keys() - {"as_json", "dry_run", "config", "save_config", "return"}
        == TrainConfig.model_fields.keys()
    )


def test_a_switch_can_be_turned_off_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jobs: list[TrainConfig] = []
    monkeypatch.setattr(command, "run", lambda config, **_: jobs.append(config))
    app = typer.Typer()
    app.command()(command.train)
    (tmp_path / "run.toml").write_text('pictures = "pictures"\nflip = true\ntucker = true\nconv_rank = 4\nno_resume = true\n')
    result = CliRunner().invoke(app, ["--config", str(tmp_path / "run.toml"), "--no-flip", "--resume"])
    assert result.exit_code == 0, result.output
    assert (jobs[0].flip, jobs[0].tucker, jobs[0].resume, jobs[0].no_resume) == (False, True, True, True)


def test_a_job_is_saved_before_it_runs(cli: Callable[..., Any], pictures: Path, tmp_path: Path) -> None:
    assert cli(str(pictures), "--save-config", str(tmp_path / "run.toml"), "--rank", "2").exit_code == 0
    assert cli("--config", str(tmp_path / "run.toml"), "--overwrite").exit_code == 0
    assert "\nrank = 2\n" in (tmp_path / "run.toml").read_text()
