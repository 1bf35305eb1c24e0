"""The range finder: what it gives is proved to be what the exact decomposition gives, or it is not taken."""

import pytest
import torch

from loraloom.combine import Goal
from loraloom.combine.rangefinder import spectrum_of
from loraloom.combine.spectrum import Spectrum

OUT, INPUTS = 480, 520  # 48 columns are the most that are tried


def low(rank=12, decay=0.8, noise=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    matrix = (torch.randn(OUT, rank, generator=generator) * decay ** torch.arange(rank)) @ torch.randn(rank, INPUTS, generator=generator)
    return matrix + noise * matrix.norm() / (OUT * INPUTS) ** 0.5 * torch.randn(OUT, INPUTS, generator=generator)


MATRICES = {
    "low rank": low(),
    "with noise": low(noise=1e-3),
    "in float16": low().half().float(),
    "falls slowly": low(rank=200, decay=0.97),
    "flat": torch.randn(OUT, INPUTS, generator=torch.Generator().manual_seed(1)),
    "zeros": torch.zeros(OUT, INPUTS),
}
GOALS = (Goal(rank=4), Goal(rank=24), Goal(error=0.3), Goal(error=0.05), Goal(error=1e-3), Goal(error=0.0), Goal(energy=0.9, max_rank=2))


def rounding(rank):
    """How far float32 may take factors from what they are worth, as a part of the change.

    With U = 2^-24: up and the rotation of down are rounded once, 2 U together. A number of down is a sum of products of v_i and a column
    of A, which comes out within U Σ|v a| ≤ U ‖a‖ where its roundings are random; over a row that is U ‖A‖, and over `rank` orthogonal rows
    U √rank ‖A‖.
    """
    return 2**-24 * (2 + rank**0.5)


@pytest.fixture(scope="module", params=MATRICES)
def matrix(request):
    """The matrix, and its exact spectrum."""
    return MATRICES[request.param], Spectrum.of_matrix(MATRICES[request.param])


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.words)
def test_rank_and_error_are_those_of_the_exact_decomposition(matrix, goal):
    """A rank's error is 1e-5 of the change from the optimum at most; with an error the rank is the same, and the error is kept."""
    matrix, exact = matrix
    found = spectrum_of(matrix, goal)
    rank = goal.rank_of(found)
    assert rank == goal.rank_of(exact)
    down, up = found.factors(rank)
    norm = float(matrix.double().norm()) or 1.0
    error = float((matrix.double() - up.double() @ down.double()).norm()) / norm
    assert error <= exact.error_of(rank) + 1e-5
    assert error == pytest.approx(found.error_of(rank), abs=rounding(rank))
    if goal.most and goal.max_rank is None:
        assert error <= goal.most + rounding(rank)


@pytest.mark.parametrize(
    ("name", "goal", "fast"),
    [
        ("low rank", Goal(rank=4), True),
        ("low rank", Goal(error=0.05), True),
        ("with noise", Goal(rank=4), True),
        ("in float16", Goal(error=0.05), True),
        ("in float16", Goal(error=1e-6), False),  # the rank is that of the rounding
        ("falls slowly", Goal(rank=8), False),
        ("flat", Goal(error=0.3), False),
        ("low rank", Goal(rank=100), False),  # as many columns as make the exact way faster
    ],
)
def test_it_is_taken_where_it_can_prove_its_error(name, goal, fast):
    assert bool(spectrum_of(MATRICES[name], goal).rest) == fast


def test_the_rest_is_what_the_basis_leaves_out():
    spectrum = spectrum_of(MATRICES["with noise"], Goal(rank=4))
    whole = MATRICES["with noise"].double()
    assert spectrum.norm == pytest.approx(float(whole.norm()), rel=1e-7)
    inside = spectrum.up.double() @ spectrum.down.double()
    assert spectrum.rest == pytest.approx(float((whole - inside).norm()), rel=1e-4)
    exact = Spectrum.of_matrix(MATRICES["with noise"])
    for rank in range(20):
        assert spectrum.least_error(rank) <= exact.error_of(rank) + 1e-7 <= spectrum.error_of(rank) + 2e-7


@pytest.mark.long
@pytest.mark.parametrize(("out", "inputs"), [(1280, 1280), (640, 5760), (5120, 1280), (2048, 2048)])
@pytest.mark.parametrize("goal", [Goal(rank=16), Goal(error=0.1), Goal(energy=0.99)], ids=lambda goal: goal.words)
def test_it_holds_at_the_sizes_of_sdxl(out, inputs, goal):
    """A change of a fast-falling spectrum in float16's rounding."""
    generator = torch.Generator().manual_seed(out + inputs)
    sizes = 0.9 ** torch.arange(64)
    matrix = ((torch.randn(out, 64, generator=generator) * sizes) @ torch.randn(64, inputs, generator=generator)).half().float()
    found, exact = spectrum_of(matrix, goal), Spectrum.of_matrix(matrix)
    rank = goal.rank_of(found)
    assert found.rest
    assert rank == goal.rank_of(exact)
    assert found.error_of(rank) <= exact.error_of(rank) + 1e-5


def test_the_same_matrix_gives_the_same_bytes():
    first, second = (spectrum_of(MATRICES["with noise"], Goal(rank=4)).factors(4) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
