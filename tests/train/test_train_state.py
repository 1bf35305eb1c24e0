"""The state of a run is what the run saved, or it is refused in a sentence that names the file; and one run at a time writes it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.bases import NANO
from loraloom.errors import TrainingError
from loraloom.tensorfile import Header
from loraloom.train import Progress, TrainConfig, TrainingStopped, checkpoint, train
from loraloom.train.lock import held, require_free
from loraloom.train.preflight import preflight
from loraloom.train.seal import NAME as SEAL

Job = Callable[..., TrainConfig]


@pytest.fixture
def stopped(job: Job, nano: Any, tmp_path: Path) -> Path:
    """The state of a run that was stopped after its third step."""
    left = iter([False, False, True])
    with pytest.raises(TrainingStopped):
        train(job(), nano, NANO, stop=lambda: next(left))
    return tmp_path / "out" / "zvz.state" / "step-000003"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0b11
    path.write_bytes(content)


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "two bits of a tensor": (lambda state: flip(state / "adapters.safetensors", -5), r"adapters\.safetensors: is not what the run saved"),
    "two bits of a moment": (lambda state: flip(state / "optimizer.safetensors", -5), r"optimizer\.safetensors: is not what the run saved"),
    "cut short": (lambda state: os.truncate(state / "adapters.safetensors", 999), r"adapters\.safetensors: is not what the run saved"),
    "empty": (lambda state: os.truncate(state / "state.json", 0), r"state\.json: is not what the run saved"),
    "a negative step": (lambda state: changed(state / "state.json", step=-5), r"state\.json: is not what the run saved"),
    "wrong types": (lambda state: changed(state / "state.json", record=7, optimizer=[]), r"state\.json: is not what the run saved"),
    "swapped files": (
        lambda state: shutil.copy(state / "optimizer.safetensors", state / "adapters.safetensors"), r"adapters\.safetensors: is not what"
    ),
    "a missing file": (lambda state: (state / "optimizer.safetensors").unlink(), r"optimizer\.safetensors is missing"),
    "a strange file": (lambda state: (state / "notes.txt").write_text("x"), r"notes\.txt is not of this state; move it"),
    "a folder": (lambda state: replaced_by_folder(state / "state.json"), r"state\.json: is a folder"),
    "a pipe": (lambda state: ((state / "state.json").unlink(), os.mkfifo(state / "state.json")), r"state\.json: is a device or pipe"),
    "a renamed state": (lambda state: state.rename(state.with_name("step-000005")), r"is of step 3, the folder's name says 5"),
    "no seal": (lambda state: (state / SEAL).unlink(), rf"{SEAL} is missing"),
    "a seal of other types": (lambda state: changed(state / SEAL, files=[1]), rf"{SEAL}: is damaged"),
    "a seal that is no JSON": (lambda state: (state / SEAL).write_bytes(b"\xff{"), rf"{SEAL}: is damaged"),
    "another format": (lambda state: changed(state / SEAL, format=3), r"written in format 3 .* reads 2"),
    "a file in its place": (lambda state: (shutil.rmtree(state), state.write_text("x")), r"step-000003"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_state_that_is_not_what_was_saved_is_refused_by_the_name_of_its_file(
    stopped: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(stopped)
    with pytest.raises(TrainingError, match=words + r".*so the run cannot go on: .*--overwrite"):
        checkpoint.newest(stopped.parent)


def test_an_earlier_state_that_is_whole_is_offered_and_goes_on(job: Job, nano: Any, stopped: Path, tmp_path: Path) -> None:
    straight = train(job(output=tmp_path / "straight"), nano, NANO)
    kept = shutil.copytree(stopped, tmp_path / "kept")
    left = iter([False, True])
    with pytest.raises(TrainingStopped):
        train(job(resume=True), nano, NANO, stop=lambda: next(left))
    shutil.copytree(kept, stopped)
    later = stopped.with_name("step-000005")
    flip(later / "adapters.safetensors", -5)
    with pytest.raises(TrainingError, match=r"step-000003 is whole: delete step-000005, and --resume goes on"):
        train(job(resume=True), nano, NANO)
    shutil.rmtree(later)
    assert train(job(resume=True), nano, NANO).hash == straight.hash


def test_the_files_of_two_states_are_not_mixed(job: Job, nano: Any, stopped: Path) -> None:
    first = shutil.copytree(stopped, stopped.parents[1] / "kept")
    left = iter([False, True])
    with pytest.raises(TrainingStopped):
        train(job(resume=True), nano, NANO, stop=lambda: next(left))
    shutil.copy(first / "adapters.safetensors", stopped.with_name("step-000005"))
    with pytest.raises(TrainingError, match=r"step-000005/adapters\.safetensors: is not what the run saved"):
        train(job(resume=True), nano, NANO)


@pytest.mark.parametrize(
    "line", ['{"step": "1", "loss": 1.0, "learning_rate": 1.0, "seconds": 1.0}', '{"step": 1, "loss": null}', "[1]", "7"]
)
def test_a_log_of_other_types_is_a_log_that_ends_there(job: Job, nano: Any, stopped: Path, line: str) -> None:
    log = stopped.parent.with_name("zvz.log.jsonl")
    log.write_text(log.read_text() + line + "\n")
    assert train(job(resume=True), nano, NANO).steps == 6


def test_what_another_run_left_since_the_job_was_looked_at_is_not_dropped(job: Job, nano: Any) -> None:
    checked = preflight(job(), NANO)
    left = iter([False, True])
    with pytest.raises(TrainingStopped):
        train(job(), nano, NANO, stop=lambda: next(left))
    with pytest.raises(Exception, match="holds an interrupted run"):
        train(job(), nano, NANO, checked=checked)
    assert train(job(resume=True), nano, NANO).steps == 6


def test_two_runs_of_one_output_are_one_run_and_a_sentence(job: Job, nano: Any, tmp_path: Path) -> None:
    found: list[str] = []

    def second(progress: Progress) -> None:
        if progress.stage == "train" and not found:
            with pytest.raises(TrainingError, match=rf"process {os.getpid()} on .*wait until it ends, or choose another --output") as told:
                train(job(resume=True), nano, NANO)
            found.append(str(told.value))
            assert any("another run writes" in problem for problem in preflight(job(overwrite=True), NANO).facts.problems)

    first = train(job(), nano, NANO, progress=second)
    assert found
    assert first.hash == Header.read(first.path).content_hash()
    assert not list(tmp_path.glob("out/.*"))


def test_a_lock_is_free_when_its_process_is_dead(tmp_path: Path) -> None:
    path = tmp_path / ".zvz.lock"
    program = f"""
import os, signal
from pathlib import Path
from loraloom.train.lock import held
with held(Path({str(path)!r})):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(TrainingError, match=f"process {child.pid} on"):
        require_free(path)
    with pytest.raises(TrainingError, match=f"process {child.pid} on"), held(path):
        pass
    child.kill()
    child.wait()
    require_free(path)
    with held(path):
        pass
    assert not path.exists()
