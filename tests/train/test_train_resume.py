"""The law of resuming: however often and wherever a run is stopped, it ends with the tensors of a straight run, bit for bit."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.bases import NANO
from loraloom.bases.nano.model import load
from loraloom.errors import SettingsError, Taken, TrainingError, WriteFailed
from loraloom.tensorfile import Header
from loraloom.train import Progress, TrainConfig, TrainingStopped, checkpoint, train

Job = Callable[..., TrainConfig]
STEPS = 8
# Everything that draws: if any of it came from a stream, stopping would shift it.
CHANCE: dict[str, Any] = {
    "steps": STEPS, "flip": True, "caption_dropout": 0.3, "caption_shuffle": True, "noise_offset": 0.1, "conv_rank": 2, "dtype": "float32",
}  # fmt: skip


def until(step: int) -> Callable[[], bool]:
    left = iter(range(step - 1, -1, -1))
    return lambda: next(left) == 0


def stop_at(job: TrainConfig, nano: Any, step: int) -> None:
    """Start or go on, and stop after `step` further steps."""
    with pytest.raises(TrainingStopped):
        train(job, nano, NANO, stop=until(step))


@pytest.mark.parametrize("components", [("unet",), ("unet", "text_encoder")], ids="+".join)
def test_a_run_stopped_twice_equals_a_straight_one(job: Job, nano: Any, tmp_path: Path, components: tuple[str, ...]) -> None:
    straight = train(job(**CHANCE, components=components, output=tmp_path / "straight"), nano, NANO)
    first, second = sorted(random.sample(range(1, STEPS), 2))
    print(f"stopped after {first} and {second}")  # shown if the test fails
    stop_at(job(**CHANCE, components=components), nano, first)
    stop_at(job(**CHANCE, components=components, resume=True), nano, second - first)
    resumed = train(job(**CHANCE, components=components, resume=True), nano, NANO)
    assert resumed.hash == straight.hash
    logs = [result.path.with_suffix(".log.jsonl").read_text().splitlines() for result in (straight, resumed)]
    assert [json.loads(line)["loss"] for line in logs[0]] == [json.loads(line)["loss"] for line in logs[1]]
    assert not resumed.path.with_suffix(".state").exists()


KILLED = Path(__file__).parent / "killed.py"


def killed(tmp_path: Path, pictures: Path, *how: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What lay there after the undisturbed run, and after each that was killed, twice where it lasted, and gone on with."""
    command = [sys.executable, str(KILLED), str(pictures), str(tmp_path / "killed"), *how]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    straight, *others = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(straight["networks"]) == 6, done.stderr  # the end, the best and one earlier step, in two namings
    print(done.stderr)
    return straight, others


def assert_as_straight(straight: dict[str, Any], others: list[dict[str, Any]]) -> None:
    wrong = [other for other in others if {**other, "name": "straight", "kills": 0} != straight]
    assert not wrong, f"{[other['name'] for other in wrong]} are not as the undisturbed run: {wrong[0]} {straight}"


def test_a_run_killed_at_a_write_or_at_any_moment_equals_a_straight_one(tmp_path: Path, pictures: Path) -> None:
    straight, others = killed(tmp_path, pictures, "--writes", *map(str, random.sample(range(1, 61), 2)), "--random", "3")
    assert_as_straight(straight, others)
    assert sum(other["kills"] for other in others) >= 5  # most go on after a second one, too


@pytest.mark.long
def test_a_run_killed_at_every_write_equals_a_straight_one(tmp_path: Path, pictures: Path) -> None:
    straight, others = killed(tmp_path, pictures, "--writes", "all")
    assert_as_straight(straight, others)
    assert len(others) > 60  # the writes of three saves


@pytest.mark.long
def test_a_run_killed_at_two_hundred_moments_equals_a_straight_one(tmp_path: Path, pictures: Path) -> None:
    straight, others = killed(tmp_path, pictures, "--random", "200")
    assert_as_straight(straight, others)
    assert sum(other["kills"] for other in others) > 200


def test_a_full_disk_leaves_the_state_before(job: Job, nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(job(**CHANCE, output=tmp_path / "straight"), nano, NANO)
    stop_at(job(**CHANCE), nano, 3)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(WriteFailed, match="No space left on device; free some space"):
            train(job(**CHANCE, resume=True, save_every=5), nano, NANO)
    state = tmp_path / "out" / "zvz.state"
    assert [path.name for path in state.iterdir()] == ["step-000003"]
    assert train(job(**CHANCE, resume=True), nano, NANO).hash == straight.hash


def test_a_file_that_cannot_be_written_keeps_the_finished_state(job: Job, nano: Any, tmp_path: Path) -> None:
    output = tmp_path / "out" / "zvz.safetensors"

    def in_the_way(progress: Progress) -> None:
        if progress.stage == "train":
            output.mkdir(exist_ok=True)  # a folder in the file's place

    with pytest.raises(WriteFailed, match=r"zvz\.safetensors: the LoRA could not be written: .*--resume tries again"):
        train(job(steps=2, overwrite=True), nano, NANO, progress=in_the_way)
    output.rmdir()
    result = train(job(steps=2, resume=True), nano, NANO)
    assert result.steps == 2
    assert result.path.is_file()


def test_a_file_that_appears_during_a_run_stays_and_the_run_is_kept_beside_it(job: Job, nano: Any, tmp_path: Path) -> None:
    output, mark = tmp_path / "out" / "zvz.safetensors", tmp_path / "out" / "zvz-000002.safetensors"

    def in_the_way(progress: Progress) -> None:
        if progress.stage == "train":
            output.write_text("another")
            mark.write_text("another")

    options = {"steps": 4, "save_every": 2, "keep": -1}
    with pytest.raises(Taken, match=r"zvz\.safetensors is there already.*kept as zvz-2\.safetensors") as caught:
        train(job(**options), nano, NANO, progress=in_the_way)
    assert output.read_text() == mark.read_text() == "another"
    straight = train(job(**options, output=tmp_path / "straight"), nano, NANO)
    assert caught.value.kept is not None
    assert Header.read(caught.value.kept).content_hash() == straight.hash
    assert (tmp_path / "out" / "zvz-000002-2.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 2}, "rank = 4, this run has 2"),
        ({"seed": 1}, "seed = 0, this run has 1"),
        ({"steps": 9}, "steps = 8, this run has 9"),
        ({"trigger": "abc"}, "trigger = 'zvz', this run has 'abc'"),
    ],
)
def test_the_state_of_another_run_is_refused_with_both_values(job: Job, nano: Any, change: dict[str, Any], words: str) -> None:
    stop_at(job(**CHANCE), nano, 1)
    with pytest.raises(TrainingError, match=words):
        train(job(**{**CHANCE, "resume": True, **change}), nano, NANO)


def test_other_pictures_or_another_base_are_refused(job: Job, nano: Any, pictures: Path) -> None:
    stop_at(job(**CHANCE), nano, 1)
    with pytest.raises(TrainingError, match=r"another base model \(sha256 [0-9a-f]{12}, now [0-9a-f]{12}\)"):
        train(job(**CHANCE, resume=True), load(seed=1), NANO)
    (pictures / "a.txt").write_text("something else")
    (pictures / "b.png").unlink()
    shutil.copy(pictures / "a.png", pictures / "d.png")
    shutil.copy(pictures / "a.png", pictures / "c.png")
    words = r"pictures and captions:\n  a\.png: another caption\n  b\.png is gone\n  c\.png: another file\n  d\.png is new\nput them back"
    with pytest.raises(TrainingError, match=words):
        train(job(**CHANCE, resume=True), nano, NANO)


def test_a_state_is_neither_dropped_nor_used_unasked(job: Job, nano: Any, tmp_path: Path) -> None:
    stop_at(job(**CHANCE), nano, 2)
    with pytest.raises(SettingsError, match=r"zvz\.state holds an interrupted run.*--resume.*--overwrite"):
        train(job(**CHANCE), nano, NANO)
    stop_at(job(**CHANCE, overwrite=True), nano, 1)
    assert [path.name for path in (tmp_path / "out" / "zvz.state").iterdir()] == ["step-000001"]


def test_a_constant_run_can_be_made_longer(job: Job, nano: Any, tmp_path: Path) -> None:
    options = {"scheduler": "constant"}
    straight = train(job(**options, steps=6, output=tmp_path / "straight"), nano, NANO)
    train(job(**options, steps=4, keep_state=True), nano, NANO)
    assert train(job(**options, steps=6, resume=True, overwrite=True), nano, NANO).hash == straight.hash


def test_another_machine_is_told(job: Job, nano: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(job(**CHANCE), nano, 1)
    now = checkpoint.machine()
    monkeypatch.setattr(checkpoint, "machine", lambda: {**now, "threads": "99"})
    notes = train(job(**CHANCE, resume=True), nano, NANO).notes
    expected = f"not be bit-equal to that of a straight run: threads {now['threads']} -> 99"
    assert any(expected in note for note in notes)


def test_a_damaged_state_is_an_error_with_advice(job: Job, nano: Any, tmp_path: Path) -> None:
    stop_at(job(**CHANCE), nano, 1)
    (tmp_path / "out" / "zvz.state" / "step-000001" / "state.json").write_text("{")
    with pytest.raises(TrainingError, match=r"state\.json: is not what the run saved .*--overwrite"):
        train(job(**CHANCE, resume=True), nano, NANO)
    shutil.rmtree(tmp_path / "out" / "zvz.state")
    notes = train(job(steps=1, resume=True), nano, NANO).notes
    assert any("nothing to resume" in note for note in notes)
