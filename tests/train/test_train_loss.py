"""Laws of the loss: targets invert the noise, weights are those of the paper and finite everywhere."""

import pytest
import torch

from loraloom.train import loss

ALPHAS = torch.cat([torch.linspace(0.999, 0.001, 9), torch.tensor([0.0, 1.0])])  # zero terminal SNR and no noise at all included


def test_v_and_epsilon_describe_the_same_noisy_latents() -> None:
    clean, noise, alphas = torch.randn(9, 4, 2, 2), torch.randn(9, 4, 2, 2), ALPHAS[:9]
    mixed, root = loss.noisy(clean, noise, alphas), alphas.reshape(-1, 1, 1, 1)
    v = loss.target("v_prediction", clean, noise, alphas)
    torch.testing.assert_close(root.sqrt() * mixed - (1 - root).sqrt() * v, clean, atol=1e-5, rtol=0)  # Salimans & Ho 2022, eq. D
    torch.testing.assert_close((1 - root).sqrt() * mixed + root.sqrt() * v, loss.target("epsilon", clean, noise, alphas), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "shift"), [("epsilon", 0), ("v_prediction", 1)])
def test_min_snr_weights_are_the_papers(kind, shift: int) -> None:
    alphas = ALPHAS[:9].double()
    snr = alphas / (1 - alphas)
    expected = snr.clamp(max=5) / (snr + shift)  # arXiv:2303.09556
    torch.testing.assert_close(loss.min_snr_weights(kind, alphas, 5), expected)


def test_min_snr_weights_are_finite_at_zero_and_infinite_snr() -> None:
    assert loss.min_snr_weights("epsilon", ALPHAS, 5)[-2:].tolist() == [1, 0]
    assert loss.min_snr_weights("v_prediction", ALPHAS, 5)[-2:].tolist() == [0, 0]
    assert loss.min_snr_weights("epsilon", ALPHAS, 0).tolist() == [1] * len(ALPHAS)
