"""Runs of butterfly stages are the stages one by one: for every number of stages and block size, and for gradients."""

import pytest
import torch
from support import close

from loraloom.adapters.boft import most_stages
from loraloom.adapters.butterfly import in_runs, runs, stage_by_stage

SIZES = [(64, 2), (320, 10), (320, 20), (48, 6), (256, 128), (1280, 10)]  # rows, rows of a block


def stages(out: int, size: int) -> list[int]:
    most = most_stages(out // size)
    return sorted({1, 2, most - 1, most} & set(range(1, most + 1)))


CASES = [(out, size, count) for out, size in SIZES for count in stages(out, size)]


@pytest.mark.parametrize(("out", "size", "count"), CASES)
def test_runs_are_the_stages_one_by_one(out, size, count):
    torch.manual_seed(0)
    turns, rows = torch.randn(count, out // size, size, size) * 0.2, torch.randn(2, out, 33)
    assert close(in_runs(turns, rows), stage_by_stage(turns, rows), 1e-5)
    assert sum(run.joins.bit_length() - 1 for run in runs(turns, torch.float32)) == count


def test_turns_of_nothing_change_nothing():
    rows = torch.randn(1, 320, 7)
    assert torch.equal(in_runs(torch.zeros(6, 32, 10, 10), rows), torch.zeros_like(rows))


def test_small_turns_keep_their_digits():
    """Against float64: a product of rotations less I would leave one digit of seven."""
    torch.manual_seed(0)
    turns, rows = torch.randn(6, 32, 10, 10) * 1e-6, torch.randn(1, 320, 40)
    assert close(in_runs(turns, rows).double(), stage_by_stage(turns.double(), rows.double()), 1e-6)


def test_gradients_pass():
    torch.manual_seed(0)
    turns, rows = (torch.randn(4, 8, 4, 4) * 0.2).requires_grad_(), torch.randn(1, 32, 5)
    (one,) = torch.autograd.grad(in_runs(turns, rows).square().sum(), turns)
    (other,) = torch.autograd.grad(stage_by_stage(turns, rows).square().sum(), turns)
    assert close(one, other, 1e-5)
