"""2,000 malformed files in `make test`, 20,000 in `make test-long`: a LoraError or a full account, quickly, and the base untouched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from malformed import BOMBS, KERNEL, TARGET, Trial, bomb, peak


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.long)])
def test_nothing_but_a_lora_error_comes_out(tmp_path, count):
    """In a process of its own, so that its memory is only what these files took. quality.md §2: 1 s and 64 MB each."""
    program = Path(__file__).with_name("malformed.py")
    helpers = os.pathsep.join([str(program.parents[1] / "contract"), *sys.path])
    run = subprocess.run(
        [sys.executable, program, tmp_path, str(count), "7"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": helpers}
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    print(found)
    assert found["read"] + found["refused"] >= count
    assert min(found["read"], found["refused"], found["attached"]) > count // 50
    assert found["slowest"] < 1
    assert found["grown"] < 64 * 2**20


@pytest.mark.parametrize("prefix", [TARGET, KERNEL])
@pytest.mark.parametrize("shapes", BOMBS, ids=lambda shapes: " ".join(map(str, shapes.values())))
def test_a_bomb_takes_no_memory(tmp_path, shapes, prefix):
    """50 MB; what would be allocated if the shapes were believed is 200 MB to 1.6 GB."""
    trial = Trial()
    bomb(shapes, tmp_path / "x.safetensors", prefix)
    before = peak()
    trial.one(tmp_path / "x.safetensors", force=True)
    assert peak() - before < 50 * 1024
    assert trial.slowest < 1
