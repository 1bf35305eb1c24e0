"""Singular values from factors alone, against the full matrix in float64."""

import pytest
import torch

from loraloom.combine.spectrum import Spectrum


def factors(out, inputs, rank, seed=0, decay=1.0):
    generator = torch.Generator().manual_seed(seed)
    scale = decay ** torch.arange(rank)
    return torch.randn(rank, inputs, generator=generator) * scale[:, None], torch.randn(out, rank, generator=generator)


SHAPES = {"tall": (300, 40, 12), "wide": (40, 300, 12), "more ranks than rows": (16, 200, 40), "one": (8, 8, 1), "square": (64, 64, 64)}


@pytest.mark.parametrize(("out", "inputs", "rank"), SHAPES.values(), ids=SHAPES.keys())
def test_values_are_those_of_the_matrix(out, inputs, rank):
    down, up = factors(out, inputs, rank)
    expected = torch.linalg.svdvals(up.double() @ down.double())
    found = Spectrum.of_factors(down, up)
    count = min(rank, out, inputs)
    assert torch.allclose(found.values[:count], expected[:count], rtol=1e-9, atol=1e-9 * float(expected[0]))
    assert found.rank == count
    assert found.norm == pytest.approx(float((up.double() @ down.double()).norm()), rel=1e-9)


@pytest.mark.parametrize("kept", [1, 3, 8, 11, 12, 100])
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_every_rank_is_within_1e_5_of_the_optimum(kept, decay):
    """Eckart and Young: no matrix of this rank is nearer than the SVD's; both errors are of the full float64 matrix."""
    down, up = factors(200, 90, 12, decay=decay)
    whole = up.double() @ down.double()
    u, s, vt = torch.linalg.svd(whole, full_matrices=False)
    best = float((whole - u[:, :kept] * s[:kept] @ vt[:kept]).norm() / whole.norm())
    spectrum = Spectrum.of_factors(down, up)
    small_down, small_up = spectrum.factors(kept)
    error = float((whole - small_up.double() @ small_down.double()).norm() / whole.norm())
    assert error <= best + 1e-6
    assert spectrum.error_of(kept) == pytest.approx(best, abs=1e-7)
    assert small_down.shape == (min(kept, 12), 90)


@pytest.mark.parametrize("error", [0.5, 0.1, 0.01, 1e-3, 0.0])
def test_an_error_is_kept_and_no_smaller_rank_would_do(error):
    down, up = factors(120, 80, 24, decay=0.7)
    whole = up.double() @ down.double()
    spectrum = Spectrum.of_factors(down, up)
    rank = spectrum.rank_for(error)
    small_down, small_up = spectrum.factors(rank)
    assert float((whole - small_up.double() @ small_down.double()).norm() / whole.norm()) <= error + 1e-6
    assert rank == 0 or spectrum.error_of(rank - 1) > error


def test_ranks_that_depend_on_one_another_are_counted_once():
    down, up = factors(50, 60, 5)
    doubled = Spectrum.of_factors(torch.cat([down, down]), torch.cat([up, 2 * up], dim=1))
    assert doubled.rank == 5
    small_down, small_up = doubled.factors(10)
    assert small_down.shape[0] == 5
    assert torch.allclose(small_up @ small_down, 3 * up @ down, atol=1e-5 * float((up @ down).abs().max()))


def test_networks_that_cancel_leave_nothing():
    down, up = factors(50, 60, 5)
    spectrum = Spectrum.of_factors(torch.cat([down, down]), torch.cat([up, -up], dim=1))
    small_down, small_up = spectrum.factors(4)
    assert float((small_up @ small_down).abs().max()) <= 1e-5 * float((up @ down).abs().max())


def test_zeros_have_no_rank():
    spectrum = Spectrum.of_factors(torch.zeros(4, 20), torch.randn(30, 4))
    assert (spectrum.rank, spectrum.norm, spectrum.error_of(0), spectrum.rank_for(0.1)) == (0, 0.0, 0.0, 0)
    down, up = spectrum.factors(4)
    assert down.shape == (0, 20)
    assert up.shape == (30, 0)


def test_factors_are_balanced():
    down, up = Spectrum.of_factors(*factors(70, 90, 6)).factors(6)
    assert torch.allclose(down.norm(dim=1), up.norm(dim=0), rtol=1e-4)
    assert torch.allclose(up.mT @ up, torch.diag(up.norm(dim=0) ** 2), atol=1e-3 * float(up.norm(dim=0).max() ** 2))


def ill(out, inputs, seed):
    """Factors of sizes 1e-4 to 1e4, sizes that undo one another, ranks that come twice, and ranks that nearly cancel."""
    generator = torch.Generator().manual_seed(seed)

    def pick(*shape):
        return torch.randn(shape, generator=generator)

    rank = int(torch.randint(1, 12, (), generator=generator))
    down, up = pick(rank, inputs), pick(out, rank)
    sizes = 10.0 ** (8 * torch.rand(rank, generator=generator) - 4)
    kind = seed % 5
    if kind == 0:
        down = down * sizes[:, None]
    elif kind == 1:
        down, up = down * sizes[:, None], up / sizes
    elif kind == 2:
        down, up = torch.cat([down, down]), torch.cat([up * sizes, up], dim=1)
    elif kind == 3:  # one network twice, with strengths that leave a ten-thousandth of it
        down, up = torch.cat([down, down]), torch.cat([up.double(), -0.9999 * up.double()], dim=1)
    else:
        mixed = pick(rank, rank)
        down, up = torch.cat([down, mixed @ down, pick(2, inputs)]), torch.cat([up, pick(out, rank) * 1e3, pick(out, 2)], dim=1)
    return down, up


@pytest.mark.parametrize("seed", range(40))
def test_ill_conditioned_factors_are_as_near_as_any(seed):
    """1e-5 of the change from the optimum by the full float64 matrix, and the error that is told is the one that is there."""
    down, up = ill(*((48, 80), (80, 48), (64, 64))[seed % 3], seed)
    whole = up.double() @ down.double()
    values = torch.linalg.svdvals(whole)
    spectrum = Spectrum.of_factors(down, up)
    for rank in (1, 2, 5, 9):
        small_down, small_up = spectrum.factors(rank)
        error = float((whole - small_up.double() @ small_down.double()).norm() / values.norm())
        assert error <= float(values[rank:].norm() / values.norm()) + 1e-5
        assert error == pytest.approx(spectrum.error_of(rank), abs=1e-5)


def test_what_cancels_to_the_last_bit_has_no_rank():
    down, up = factors(50, 60, 5)
    spectrum = Spectrum.of_factors(torch.cat([down, down, down]), torch.cat([0.5 * up, 0.5 * up, -up], dim=1))
    assert (spectrum.rank, spectrum.norm) == (0, 0.0)


@pytest.mark.parametrize(("out", "inputs"), [(40, 70), (70, 40), (50, 50)])
def test_a_matrix_has_the_same_spectrum_as_its_factors(out, inputs):
    down, up = factors(out, inputs, 9, decay=0.6)
    found, expected = Spectrum.of_matrix(up @ down), Spectrum.of_factors(down, up)
    assert torch.allclose(found.values[:9], expected.values, rtol=1e-5, atol=1e-6 * float(expected.values[0]))
    assert found.rank == 9
    small_down, small_up = found.factors(3)
    other_down, other_up = expected.factors(3)
    assert torch.allclose(small_up @ small_down, other_up @ other_down, atol=1e-5 * float(expected.values[0]))
