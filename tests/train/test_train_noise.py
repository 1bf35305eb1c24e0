"""Laws of noise and timesteps: every part is its formula, and what is off leaves the others' draws as they were."""

import math

import numpy as np
import pytest
import torch

from loraloom.errors import SettingsError
from loraloom.train.chance import Sample
from loraloom.train.config.loss import LossFields
from loraloom.train.noise import noise, perturbed
from loraloom.train.timesteps import timestep

SHAPE = (4, 16, 24)
SAMPLE = Sample(7, 3, 0, "a.png#0.0")


def samples(count: int) -> list[Sample]:
    return [Sample(7, step, 0, "a.png#0.0") for step in range(1, count + 1)]


def white(purpose: str = "noise", *shape: int) -> torch.Tensor:
    return torch.randn(shape or SHAPE, generator=SAMPLE.generator(purpose))


def test_noise_is_white_and_bit_equal_where_nothing_is_chosen() -> None:
    drawn = noise(SAMPLE, SHAPE, LossFields())
    assert torch.equal(drawn, white())
    assert perturbed(drawn, SAMPLE, LossFields()) is drawn


def test_an_offset_moves_whole_channels_by_its_strength() -> None:
    off = noise(SAMPLE, SHAPE, LossFields(noise_offset=0.1)) - white()
    torch.testing.assert_close(off, (0.1 * white("noise offset", 4, 1, 1)).expand(SHAPE), atol=1e-6, rtol=0)
    strengths = [noise(each, SHAPE, LossFields(noise_offset=0.1, noise_offset_random=True)) for each in samples(200)]
    fixed = [noise(each, SHAPE, LossFields(noise_offset=0.1)) for each in samples(200)]
    plain = [noise(each, SHAPE, LossFields()) for each in samples(200)]
    parts = [float((a - c).abs().mean() / (b - c).abs().mean()) for a, b, c in zip(strengths, fixed, plain, strict=True)]
    assert 0 <= min(parts) < 0.1 < 0.9 < max(parts) <= 1.001
    assert sum(parts) / len(parts) == pytest.approx(0.5, abs=0.1)


def test_perturbation_is_seen_and_not_to_be_found() -> None:
    drawn = noise(SAMPLE, SHAPE, LossFields(input_perturbation=0.1))
    assert torch.equal(drawn, white())
    torch.testing.assert_close(perturbed(drawn, SAMPLE, LossFields(input_perturbation=0.1)), drawn + 0.1 * white("input perturbation"))


def test_pyramid_noise_is_a_sum_of_enlarged_noise_with_unit_variance() -> None:
    expected = white().double()
    for level in range(6):
        ratio = (2 + 2 * float(torch.rand((), generator=SAMPLE.generator(f"multires ratio {level}")))) ** level
        size = max(1, int(16 / ratio)), max(1, int(24 / ratio))
        coarse = white(f"multires noise {level}", 1, 4, *size).double()
        expected += 0.4**level * enlarged(coarse[0])
        if 1 in size:
            break
    found = noise(SAMPLE, SHAPE, LossFields(multires_noise_iterations=6, multires_noise_discount=0.4))
    torch.testing.assert_close(found.double(), expected / expected.std(), atol=1e-5, rtol=1e-5)
    assert float(found.std()) == pytest.approx(1)


def enlarged(coarse: torch.Tensor) -> torch.Tensor:
    """Bilinear with half-pixel centres, written out."""
    found = torch.empty(SHAPE, dtype=torch.float64)
    for out, (row, column) in zip(found.flatten(1).T, ((row, column) for row in range(16) for column in range(24)), strict=True):
        places = []
        for index, length, whole in ((row, coarse.shape[1], 16), (column, coarse.shape[2], 24)):
            place = max(0.0, (index + 0.5) * length / whole - 0.5)
            low = min(int(place), length - 1)
            places.append((low, min(low + 1, length - 1), place - low))
        (top, bottom, down), (left, right, across) = places
        upper = coarse[:, top, left] * (1 - across) + coarse[:, top, right] * across
        lower = coarse[:, bottom, left] * (1 - across) + coarse[:, bottom, right] * across
        out.copy_(upper * (1 - down) + lower * down)
    return found


def drawn(count: int = 2000, **values: float | str) -> np.ndarray:
    config = LossFields(**values)  # type: ignore[arg-type]
    return np.array([int(timestep(each, config, 1000)) for each in samples(count)])


def test_timesteps_are_uniform_and_bit_equal_where_nothing_is_chosen() -> None:
    expected = [int(torch.randint(1000, (), generator=each.generator("timestep"))) for each in samples(50)]
    assert drawn(50).tolist() == expected


def test_timesteps_stay_within_their_bounds() -> None:
    for sampling in ("uniform", "logit_normal", "mode", "cosmap", "beta"):
        found = drawn(200, timestep_sampling=sampling, min_timestep=200, max_timestep=300)
        assert (found.min() >= 200, found.max() < 300) == (True, True)
    with pytest.raises(SettingsError, match="min_timestep 500 and max_timestep 500 leave nothing"):
        drawn(1, min_timestep=500, max_timestep=500)


def share(low: float, high: float, density) -> float:
    """The part of a density that lies between low and high."""
    points = np.linspace(low, high, 2001)
    return float(np.mean(density(points)) * (high - low))


@pytest.mark.parametrize(
    ("values", "density"),
    [
        ({"timestep_sampling": "logit_normal", "logit_mean": 0.5, "logit_std": 0.8},  # arXiv:2403.03206
         lambda t: np.exp(-((np.log(t / (1 - t)) - 0.5) ** 2) / (2 * 0.8**2)) / (0.8 * math.sqrt(2 * math.pi) * t * (1 - t))),
        ({"timestep_sampling": "cosmap"}, lambda t: 2 / (math.pi - 2 * math.pi * t + 2 * math.pi * t**2)),
        ({"timestep_sampling": "beta", "beta_a": 2.0, "beta_b": 3.0}, lambda t: 12 * t * (1 - t) ** 2),
        ({"timestep_shift": 3.0}, lambda t: 3 / (3 - 2 * t) ** 2),  # of u, where t = 3u/(1+2u)
    ],
    ids=["logit_normal", "cosmap", "beta", "shift"],
)  # fmt: skip
def test_timesteps_follow_the_density_of_their_name(values, density) -> None:
    found = drawn(**values) / 1000
    for low, high in ((0.02, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.98)):
        expected = share(low, high, density)
        spread = math.sqrt(expected * (1 - expected) / len(found))
        assert float(((found >= low) & (found < high)).mean()) == pytest.approx(expected, abs=4 * spread + 0.002), (low, high)


def test_mode_draws_the_images_of_a_uniform_number() -> None:
    found = drawn(300, timestep_sampling="mode")
    uniform = np.array([float(torch.rand((), generator=each.generator("timestep"), dtype=torch.float64)) for each in samples(300)])
    expected = 1 - uniform - 1.29 * (np.cos(math.pi * uniform / 2) ** 2 - 1 + uniform)  # arXiv:2403.03206
    assert np.abs(found - np.floor(expected * 1000)).max() <= 1
    assert ((found > 250) & (found < 750)).mean() > 0.6  # half of a uniform number's would be 0.5
