"""Laws of the look before a run: nothing is loaded or written, and what it says is what the run then does."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from support import network
from typer.testing import CliRunner

from loraloom import dialects
from loraloom.bases import NANO, SD1, TINY
from loraloom.cli import app
from loraloom.errors import DatasetError, SettingsError
from loraloom.generate.unopened import look
from loraloom.lorafile import LoraFile
from loraloom.session import Session
from loraloom.train import TrainConfig, estimate, train
from loraloom.train.preflight import Known, preflight
from loraloom.train.trainable import Trainable, fresh
from loraloom.train.view import view

Job = Callable[..., TrainConfig]


def dry(*words: object) -> Any:
    return CliRunner().invoke(app, ["train", *map(str, words), "--dry-run"])


def test_the_page_says_what_the_run_would_do_and_writes_nothing(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "zvz.safetensors"
    before = sorted(tmp_path.rglob("*"))
    result = dry(pictures, "--base", "nano", "-t", "zvz", "-o", output, "--steps", 6, "--sample", "zvz", "--cache", tmp_path / "kept")
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.rglob("*")) == before
    page = " ".join(result.stdout.split())
    for words in (
        *("lora for loraloom nano 1", "pictures 3", "shape 16×16", "6 of 2 pictures"),
        *("an epoch takes 3", "4 epochs", "48 modules of unet", "rank 4", "an estimate", "zvz.samples", "zvz.state", "kept"),
        *("1 of 3 pictures have no caption", "nothing stands in the way"),
    ):
        assert words in page
    assert page.count("“zvz") == 3


def test_json_says_the_same(pictures: Path, tmp_path: Path) -> None:
    result = dry(pictures, "--base", "nano", "-o", tmp_path / "o", "--json")
    found = json.loads(result.stdout)
    assert (found["pictures"], found["steps"], found["ready"], found["trained"]["modules"]) == (3, 20, True, 48)
    assert [prompt["cut"] for prompt in found["prompts"]] == [0, 0, 0]


def test_what_only_the_run_would_find_out_is_found_before_the_model_is_loaded(job: Job, nano: Any, pictures: Path, tmp_path: Path) -> None:
    """An optimiser that nobody knows, an option that it has not, a warm start that is not there, for another family, or of more."""
    few = network(SD1, lambda layer: "attn2.to_k" in str(layer.target), share=0.2)
    other = dialects.write(LoraFile(few.adapters, {}, "sd1"), tmp_path / "other.safetensors")
    both = train(job(steps=1, components=("unet", "text_encoder"), output=tmp_path / "both"), nano, NANO).path
    for words, expected in (
        (("--optimizer", "adamx"), "no optimiser named 'adamx'; did you mean \"adamw\"?"),
        (("--optimizer-option", "beta=1"), "no option 'beta'"),
        (("--warm-start", tmp_path / "gone.safetensors"), "gone.safetensors: cannot be read"),
        (("--warm-start", other), "made for SD 1.x"),
        (("--warm-start", both), "has text_encoder too, this job trains unet"),
    ):
        result = dry(pictures, "--base", "nano", "-o", tmp_path / "o", "--json", *words)
        assert result.exit_code == 1, result.output
        assert expected in " | ".join(json.loads(result.stdout)["problems"])


def test_what_would_stop_the_run_is_told_all_at_once_with_exit_code_1(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "o.safetensors").write_bytes(b"mine")
    result = dry(pictures, "--base", "nano", "-o", tmp_path / "o", "--resolution", 17, "--json")
    assert result.exit_code == 1
    problems = " | ".join(json.loads(result.stdout)["problems"])
    assert "o.safetensors exists" in problems
    assert "resolution 17 is not a multiple of 2" in problems
    with pytest.raises(SettingsError):
        Session().train(TrainConfig(pictures=pictures, base="nano", output=tmp_path / "o", resolution=17))
    assert (tmp_path / "o.safetensors").read_bytes() == b"mine"


def test_no_model_is_loaded_before_the_pictures_are_known_to_be_good(pictures: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(source: str) -> None:
        raise AssertionError(f"{source} was loaded")

    monkeypatch.setattr("loraloom.session.bases.open_pipeline", fail)
    session, job = Session(), TrainConfig(pictures=pictures, base="tiny", output=tmp_path / "o")
    facts = session.preflight(job).facts
    assert facts.memory is not None
    assert facts.prompts[0].cut == 0
    (pictures / "b.png").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"b\.png"):
        session.train(job)


def test_captions_over_the_limit_are_counted_without_the_model(pictures: Path, tmp_path: Path) -> None:
    (pictures / "a.txt").write_text("a red cat on a wall, " * 40)
    (pictures / "b.txt").write_text("short")
    notes = Session().preflight(TrainConfig(pictures=pictures, base="tiny", output=tmp_path / "o")).facts.notes
    assert any(note.startswith("1 caption is longer than the text encoder reads and is cut: a.png (by ") for note in notes)


def test_the_numbers_that_are_trained_are_counted_exactly(job: Job, nano: Any) -> None:
    for values in (
        {},
        {"conv_rank": 2},
        {"conv_rank": 2, "tucker": True},
        {"type": "lokr"},
        {"dora": True},
        {"components": ("unet", "text_encoder")},
    ):
        checked = preflight(job(**values), NANO)
        seen = view(nano, NANO)
        network = Trainable(seen, NANO, fresh(checked.planned, seen, NANO, seed=0))
        assert checked.facts.trained.numbers == sum(parameter.numel() for parameter in network.parameters())


def test_the_estimate_grows_with_what_takes_memory(job: Job) -> None:
    def total(**values: Any) -> int:
        found = preflight(job(**values), SD1, Known(weights=10**9)).facts.memory
        assert found is not None
        return found.total

    small = total(resolution=256, batch=1)
    assert small < total(resolution=512, batch=1) < total(resolution=512, batch=4)
    assert small < total(resolution=256, batch=1, rank=512)
    assert small < total(resolution=256, batch=1, components=("unet", "text_encoder"))


def test_a_run_that_is_larger_than_the_memory_says_so_and_what_would_help(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Known(weights=10**9)
    monkeypatch.setattr(estimate, "free", lambda _: 5 * 10**9)
    said = preflight(job(resolution=512, batch=2), SD1, large).facts.notes
    assert [note for note in said if "of memory" in note] == [
        "the run takes about 9.7 GB of memory, by estimate, and 5.0 GB are free; "
        "less is taken with --batch 1 --accumulate 2, --checkpointing, --base-dtype bfloat16, a --resolution below 512"
    ]
    small = job(resolution=64, batch=1, checkpointing=True, base_dtype="bfloat16")
    assert not any("of memory" in note for note in preflight(small, SD1, large).facts.notes)


def test_what_is_free_is_some_of_the_computers_memory() -> None:
    assert 2**20 < estimate.free(torch.device("cpu")) < psutil.virtual_memory().total


def test_a_base_is_known_by_its_folder(tmp_path: Path) -> None:
    tiny = look("tiny")
    assert tiny is not None
    assert (tiny.base, tiny.pixels_per_latent) == (TINY, 4)
    assert tiny.tokens_cut is not None
    assert tiny.tokens_cut("a cat") == 0 < tiny.tokens_cut("a cat " * 200)
    assert look(str(tmp_path / "nothing")) is look("owner/name") is look(str(tmp_path)) is None


def test_the_run_says_the_facts_as_notes(job: Job, nano: Any) -> None:
    result = train(job(steps=1), nano, NANO)
    assert result.notes[0] == "3 pictures; 1 steps of 2 are 0.667 epochs of 3"
    assert any(note.startswith("first prompts: ") and "zvz" in note for note in result.notes)


def test_a_dry_run_of_an_embedded_base_does_not_load_diffusers(pictures: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from loraloom.session import Session; from loraloom.train import TrainConfig;"
        f"Session().preflight(TrainConfig(pictures={str(pictures)!r}, base='tiny', output={str(tmp_path / 'o')!r}));"
        "sys.exit('diffusers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
