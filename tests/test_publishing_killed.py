"""A run that is killed leaves what was there, or the whole new file, and nothing that anybody takes for a LoRA."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loraloom import Session, leftovers
from loraloom.combine import CombineRequest

PROGRAM = Path(__file__).parent / "publishing_killed.py"


@pytest.fixture
def source(tmp_path, make_lora):
    make_lora(tmp_path / "loras" / "ink.safetensors", seed=1, rank=1)
    make_lora(tmp_path / "loras" / "neon.safetensors", seed=2, rank=1)
    shutil.copy(tmp_path / "loras" / "neon.safetensors", tmp_path / "loras" / "out.safetensors")
    return tmp_path / "loras"


def runs(source, work, how):
    command = [sys.executable, str(PROGRAM), str(source), str(work), how]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def assert_nothing_is_lost(found):
    whole = found["then"]["out"]
    assert found["after"]["out"] in (found["before"]["out"], whole)
    assert found["after"]["whole"]
    assert set(found["after"]["seen"]) <= {"ink.safetensors", "neon.safetensors", "out.safetensors"}
    assert found["again"] == 0
    assert whole
    assert found["then"]["seen"] == ["ink.safetensors", "neon.safetensors", "out.safetensors"]
    assert found["then"]["hidden"] == []  # the next one removes what the killed run left, and leaves none of its own


@pytest.mark.parametrize("how", ["few", pytest.param("more", marks=pytest.mark.long)])
def test_a_run_that_is_killed_at_any_write_leaves_the_old_file_or_the_new(source, tmp_path, how):
    found = runs(source, tmp_path / "work", how)
    for each in found:
        assert_nothing_is_lost(each)
    kills = [(each["command"], each["there"]) for each in found if each["ended"] == -9]
    assert {kills.count(run) for run in set(kills)} == {3, 5}  # the writes of a file, and of one that is read back aside


@pytest.mark.long
def test_a_run_that_is_killed_at_any_time_leaves_the_old_file_or_the_new(source, tmp_path):
    found = runs(source, tmp_path / "work", "150")
    for each in found:
        assert_nothing_is_lost(each)
    assert len({each["ended"] for each in found}) == 2  # some were killed, and some had ended


def test_what_a_killed_run_left_goes_away_after_a_day_and_nothing_else_does(source):
    old = [
        source / ".loraloom-abcd_123",
        source / ".ink.safetensors.0123456789ab.partial",
        source / ".mine.partial",
        source / ".loraloom-x",
    ]
    young = source / ".loraloom-ijkl5678"
    for path in (old[0], young):
        path.mkdir()
        (path / "x.safetensors").touch()
    for path in old[1:]:
        path.touch()
    for path in old:
        os.utime(path, (time.time() - 90_000,) * 2)
    Session(lora_folders=[source]).extract(CombineRequest(mix="<lora:ink:1>"), source / "new.safetensors")
    assert sorted(path.name for path in source.iterdir() if path.name.startswith(".")) == [
        ".loraloom-ijkl5678",
        ".loraloom-x",
        ".mine.partial",
    ]
    assert leftovers.ASIDE in young.name
