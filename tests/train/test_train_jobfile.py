"""Laws of jobs in files: what is saved can be run again, options count more, paths are the file's, mistakes are shown with their line."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from loraloom.bases import NANO, SD1, TINY
from loraloom.bases.base import TEXT_ENCODERS
from loraloom.errors import SettingsError, WriteFailed
from loraloom.train import TrainConfig, resolve
from loraloom.train.config import JobFile, ResolvedConfig, read_config, save_config
from loraloom.train.defaults import DEFAULTS
from loraloom.train.presets import PRESETS

command = importlib.import_module("loraloom.cli.train")
ASKED = {"resume", "overwrite"}
JOBS: dict[str, dict[str, Any]] = {
    "plain": {},
    "preset": {"preset": "character", "rank": 5},
    "everything": {
        "conv_rank": 4, "tucker": True, "components": ("unet", "text_encoder"), "text_encoder_learning_rate": 3e-5, "learning_rate": 7e-4,
        "sample_prompts": ('a "house"', "die Straße\\"), "dialects": ("peft", "kohya"), "validation_share": 0.25, "keep": -1, "flip": True,
        "description": "two\nlines", "trigger": "zvz", "resume": True,
    },
}  # fmt: skip


def asked(job: TrainConfig) -> dict[str, Any]:
    found = job.model_dump(exclude=ASKED)
    return found | {"pictures": [path.resolve() for path in job.pictures], "output": Path(found["output"]).resolve()}


@pytest.mark.parametrize("ending", [".toml", ".json"])
@pytest.mark.parametrize("name", JOBS)
def test_a_saved_job_is_the_same_job_again(tmp_path: Path, pictures: Path, name: str, ending: str) -> None:
    job = resolve(TrainConfig(pictures=pictures, output=tmp_path / "x" / "y.safetensors", **JOBS[name]), NANO)
    path = save_config(job, tmp_path / "deep" / f"run{ending}")
    again = resolve(read_config(JobFile.read(path).anchored()), NANO)
    assert asked(again) == asked(job)
    assert not again.resume


def test_every_field_of_a_saved_job_has_its_meaning_beside_it(tmp_path: Path, pictures: Path) -> None:
    job = resolve(TrainConfig(pictures=pictures, alpha=8), SD1)
    text = save_config(job, tmp_path / "run.toml").read_text("utf-8")
    for name in TrainConfig.model_fields.keys() - ASKED:
        assert f"\n{name} = " in text or f"\n# {name} " in text, name
    assert "here 0.0001 · 8/16 = 5e-05" in text
    assert "# conv_alpha = 16.0  (without effect in this job)" in text
    assert 'pictures = ["pictures"]' in text  # below the file's folder, so it may move with it
    assert tomlkit.parse(text).unwrap()["rank"] == 16


def test_a_separator_at_the_end_of_the_output_is_a_folder_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('pictures = "pictures"\ntrigger = "zvz"\noutput = "runs/"\n')
    assert command._job(tmp_path / "run.toml", {}).output == tmp_path / "runs" / "zvz.safetensors"


def test_a_job_file_is_replaced_only_when_asked(tmp_path: Path, pictures: Path) -> None:
    job = resolve(TrainConfig(pictures=pictures), NANO)
    path = save_config(job, tmp_path / "run.toml")
    with pytest.raises(WriteFailed, match=r"run\.toml is there already"):
        save_config(job, path)
    save_config(job, path, overwrite=True)
    with pytest.raises(SettingsError, match=r"run\.yaml: a job is written as a \.toml or \.json file"):
        save_config(job, tmp_path / "run.yaml")


def test_options_count_more_and_paths_are_those_of_the_file(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "jobs" / "run.toml"
    file.parent.mkdir()
    (file.parent / "mine").mkdir()
    (file.parent / "tiny").mkdir()  # a folder of an embedded base's name
    file.write_text('pictures = "../pictures"\nrank = 4\nsteps = 9\nbase = "mine"\nvalidation = ["held"]\noutput = "out/x"\n')
    monkeypatch.chdir(tmp_path)
    job = command._job(Path("jobs/run.toml"), {"steps": 3, "output": Path("a/y")})
    assert (job.rank, job.steps, job.output) == (4, 3, Path("a/y.safetensors"))
    assert [path.resolve() for path in job.pictures] == [pictures.resolve()]
    assert job.base == str(file.parent / "mine")
    assert job.validation == (file.parent / "held",)
    file.write_text('pictures = "x"\nbase = "tiny"')
    job = command._job(file, {})
    assert (job.base, job.output) == ("tiny", Path("loras/x.safetensors"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", 'pictures = "x"\n\nrnak = 4\n', ["a.toml, line 3: there is no option 'rnak'", 'did you mean "rank"']),
        ("a.toml", 'pictures = "x"\n[losses]\nrank = 4\n', ["a.toml, line 2: there is no option 'losses'"]),
        ("a.toml", 'pictures = "x"\nrank = 0', ["a.toml, line 2: rank = 0", "greater than or equal to 1"]),
        ("a.toml", 'pictures = "x"\nrank =\n\n', ["a.toml: cannot be read as TOML", "line 2"]),
        ("a.toml", "rank = 4", ["pictures is missing"]),
        ("a.toml", 'pictures = "x"\npreset = "stile"', ["'stile'", 'did you mean "style"']),
        ("a.json", '{"pictures": "x",\n "rnak": 4}', ["a.json, line 2: there is no option 'rnak'"]),
        ("a.json", '{"pictures": "x",\n "rank": }', ["a.json: cannot be read as JSON", "line 2"]),
        ("a.json", "[1]", ["expected one object"]),
        ("a.yaml", "", ["a job is read from a .toml or .json file"]),
        ("a.toml", b"\xff", ["a.toml: cannot be read"]),
    ],
)
def test_what_is_wrong_in_a_file_is_shown_with_its_place(tmp_path: Path, name: str, text: str | bytes, words: list[str]) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError) as caught:
        command._job(tmp_path / name, {})
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        JobFile.read(tmp_path / "run.toml")


def test_an_error_of_an_option_is_not_put_on_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('pictures = "x"\nrank = 4')
    with pytest.raises(SettingsError) as caught:
        command._job(tmp_path / "a.toml", {"rank": 0})
    assert "line" not in str(caught.value)


@pytest.mark.parametrize("base", [NANO, SD1, TINY], ids=lambda base: base.family)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_what_the_job_does_not_say(pictures: Path, preset: str, base: Any) -> None:
    values = {choice.field: choice.value(DEFAULTS[base.family]) for choice in PRESETS[preset]}
    if "components" in values:  # each of these bases has one text encoder
        values["components"] = tuple("text_encoder" if name == TEXT_ENCODERS else name for name in values["components"])
    job = resolve(TrainConfig(pictures=pictures, preset=preset), base)
    assert {name: getattr(job, name) for name in values} == values
    assert isinstance(resolve(job, base), ResolvedConfig)  # a decided job is a job
    said = resolve(TrainConfig(pictures=pictures, preset=preset, steps=7, rank=3), base)
    assert (said.steps, said.rank, said.alpha) == (7, 3, 3)


def test_presets_are_in_the_documentation_with_their_values() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    for name, choices in PRESETS.items():
        for choice in choices:
            for family in ("tiny", "sd1"):
                value = choice.value(DEFAULTS[family])
                shown = ", ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
                assert any(name in line and choice.field in line and f" {shown} " in line for line in text.splitlines()), (
                    name,
                    choice.field,
                )
                assert choice.why in text


def test_json_of_a_saved_job_has_no_idle_values(tmp_path: Path, pictures: Path) -> None:
    saved = json.loads(save_config(resolve(TrainConfig(pictures=pictures), NANO), tmp_path / "run.json").read_text())
    assert "conv_alpha" not in saved
    assert saved["dialects"] == ["kohya"]
