"""What a run frees it keeps, and gives back when it is over."""

import ctypes
import platform
import resource
from pathlib import Path

import pytest
import torch

from loraloom.train.allocator import kept_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
MIB = 2**20


def faults(rounds: int) -> int:
    """Page faults of taking, filling and freeing three blocks as large as a layer's outputs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        kept = [torch.ones(10 * MIB // 4) for _ in range(3)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def held() -> int:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def test_freed_memory_is_used_again_and_given_back():
    libc = ctypes.CDLL(None)
    libc.mallopt(-1, 128 << 10)  # as a process that has freed nothing yet
    libc.mallopt(-3, 128 << 10)
    without = faults(10)
    libc.malloc_trim(0)
    before = held()
    with kept_memory():
        faults(1)
        inside = faults(10)
        assert held() - before > 20 * MIB
    assert without > 10 * inside
    assert held() - before < 5 * MIB


def test_an_error_inside_gives_it_back_too():
    def failing() -> None:
        with kept_memory():
            faults(1)
            raise ValueError("inside")

    before = held()
    with pytest.raises(ValueError, match="inside"):
        failing()
    assert held() - before < 5 * MIB
