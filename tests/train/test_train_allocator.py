"""What a run frees it keeps, and gives back when it is over: told by a process that has freed nothing else."""

import json
import platform
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
MIB = 2**20
PROGRAM = """
import ctypes, json, resource
from contextlib import suppress
from pathlib import Path
import torch
from loraloom.train.allocator import kept_memory

def faults(rounds):
    "Page faults of taking, filling and freeing three blocks, larger than glibc ever keeps by itself (32 MiB, mallopt(3))."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        kept = [torch.ones(33 * 2**20 // 4) for _ in range(3)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

torch.set_num_threads(1)
torch.ones(1)
found = {"default": faults(20), "before": held()}
with kept_memory():
    found |= {"inside": faults(20), "held": held()}
found |= {"after": held()}
with suppress(ValueError), kept_memory():
    faults(1)
    raise ValueError
print(json.dumps(found | {"after an error": held()}))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True).stdout)
    return found


def test_freed_memory_is_used_again(told: dict[str, Any]) -> None:
    assert (
        told["inside"] <= told["default"] / 4
    )  # by default every round takes its pages anew; inside the first does, and the next one or two as free blocks lie
    assert told["held"] - told["before"] > 90 * MIB


def test_it_is_given_back_after_an_error_too(told: dict[str, Any]) -> None:
    assert told["after"] - told["before"] < 5 * MIB
    assert told["after an error"] - told["before"] < 5 * MIB
