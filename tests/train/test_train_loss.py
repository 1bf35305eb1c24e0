"""Laws of the loss: targets invert the noise, weights and distances are those of their papers and finite everywhere."""

import math

import pytest
import torch

from loraloom.errors import SettingsError
from loraloom.train.config.loss import LossFields
from loraloom.train.loss import Process, debiased, distance, min_snr, per_sample, thresholds, zero_terminal

ALPHAS = torch.cat([torch.linspace(0.999, 0.001, 9), torch.tensor([0.0, 1.0])])  # zero terminal SNR and no noise at all included
STEPS = torch.arange(9)
SNR = (ALPHAS[:9].double() / (1 - ALPHAS[:9].double())).numpy()


def processes(prediction: str) -> Process:
    return Process.of(prediction, ALPHAS)  # type: ignore[arg-type]


def test_v_and_epsilon_describe_the_same_noisy_latents() -> None:
    clean, noise, root = torch.randn(9, 4, 2, 2), torch.randn(9, 4, 2, 2), ALPHAS[:9].reshape(-1, 1, 1, 1)
    mixed, v = processes("v_prediction").noisy(clean, noise, STEPS), processes("v_prediction").target(clean, noise, STEPS)
    torch.testing.assert_close(root.sqrt() * mixed - (1 - root).sqrt() * v, clean, atol=1e-5, rtol=0)  # Salimans & Ho 2022, eq. D
    found = (1 - root).sqrt() * mixed + root.sqrt() * v
    torch.testing.assert_close(found, processes("epsilon").target(clean, noise, STEPS), atol=1e-5, rtol=0)


def test_a_flow_is_a_straight_line_from_the_picture_to_noise() -> None:
    sigma = torch.arange(1, 11, dtype=torch.float64) / 10
    flow = Process.of("flow_prediction", (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2))
    clean, noise, steps = torch.randn(10, 4, 2, 2), torch.randn(10, 4, 2, 2), torch.arange(10)
    part = sigma.float().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(flow.noisy(clean, noise, steps), (1 - part) * clean + part * noise)  # arXiv:2403.03206
    torch.testing.assert_close(flow.target(clean, noise, steps), noise - clean)
    torch.testing.assert_close(flow.heard(steps), torch.arange(1, 11, dtype=torch.float32))
    assert processes("epsilon").heard(steps) is steps


ON_X0 = {"epsilon": 1 / SNR, "v_prediction": 1 / (SNR + 1), "flow_prediction": 1 / (1 + SNR**0.5) ** 2}  # σ = 1/(1 + √SNR)


@pytest.mark.parametrize("kind", ON_X0)
def test_weights_are_the_papers_weights_of_the_error_on_the_picture(kind) -> None:
    alphas = ALPHAS[:9].double()
    torch.testing.assert_close(min_snr(kind, alphas, 5), torch.tensor(SNR.clip(max=5) * ON_X0[kind]))  # arXiv:2303.09556
    torch.testing.assert_close(debiased(kind, alphas), torch.tensor(SNR**0.5 * ON_X0[kind]))  # arXiv:2310.08442


def test_weights_are_finite_at_zero_and_infinite_snr() -> None:
    assert min_snr("epsilon", ALPHAS, 5)[-2:].tolist() == [1, 0]
    assert min_snr("v_prediction", ALPHAS, 5)[-2:].tolist() == [0, 0]
    for kind in ON_X0:
        assert min_snr(kind, ALPHAS, 0).tolist() == [1] * len(ALPHAS)  # type: ignore[arg-type]
        assert bool(debiased(kind, ALPHAS).isfinite().all())  # type: ignore[arg-type]
    assert debiased("epsilon", ALPHAS)[-2:].tolist() == pytest.approx([1000**0.5, 1000**-0.5])


def test_distances_are_their_formulas() -> None:
    predicted, wanted, c = torch.randn(2, 4, 3, 3).double(), torch.randn(2, 4, 3, 3).double(), torch.tensor([0.1, 0.7]).double()
    for index in range(predicted.numel()):
        place = tuple(int(each) for each in torch.unravel_index(torch.tensor(index), predicted.shape))
        off, limit = float(predicted[place] - wanted[place]), float(c[place[0]])
        expected = {
            "l2": off**2,
            "l1": abs(off),
            "huber": 2 * limit * (math.sqrt(off**2 + limit**2) - limit),
            "smooth_l1": 2 * (math.sqrt(off**2 + limit**2) - limit),
        }
        for kind, value in expected.items():
            assert float(distance(kind, predicted, wanted, c)[place]) == pytest.approx(value, rel=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["constant", "exponential", "snr"])
def test_thresholds_are_kohyas(schedule) -> None:
    found = thresholds(schedule, 0.1, processes("epsilon"), STEPS)
    for step, alpha in enumerate(ALPHAS[:9].double().tolist()):
        sigma = math.sqrt((1 - alpha) / alpha)
        formulas = {
            "constant": 0.1,
            "exponential": math.exp(math.log(0.1) * step / len(ALPHAS)),
            "snr": (1 - 0.1) / (1 + sigma) ** 2 + 0.1,
        }
        assert float(found[step]) == pytest.approx(formulas[schedule], rel=1e-6)
    assert float(thresholds("snr", 0.1, processes("epsilon"), torch.tensor([9]))) == pytest.approx(0.1)  # ā = 0


def test_the_loss_is_what_it_was_where_nothing_is_chosen() -> None:
    predicted, wanted, weights = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.rand(3)
    found = per_sample(distance("l2", predicted, wanted, torch.ones(3)), weights)
    assert torch.equal(found, weights * (predicted - wanted).square().mean(dim=(1, 2, 3)))
    assert torch.equal(found, per_sample(distance("l2", predicted, wanted, torch.ones(3)), weights, torch.ones(3, 1, 2, 2)))


def test_a_place_that_counts_nothing_teaches_nothing() -> None:
    predicted = torch.randn(1, 4, 2, 2, requires_grad=True)
    pixels = torch.tensor([[1.0, 0.0], [0.5, 0.0]]).reshape(1, 1, 2, 2)
    per_sample(distance("l2", predicted, torch.zeros(1, 4, 2, 2), torch.ones(1)), torch.ones(1), pixels).sum().backward()
    assert predicted.grad is not None
    torch.testing.assert_close(predicted.grad, 2 * predicted.detach() * pixels / 16)


def test_zero_terminal_snr_is_algorithm_one_of_the_paper() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    root = alphas.sqrt()
    shifted = (root - root[-1]) * root[0] / (root[0] - root[-1])
    found = zero_terminal(alphas.float())
    torch.testing.assert_close(found.double(), shifted**2, atol=1e-6, rtol=1e-5)
    assert float(found[-1]) == 0
    assert float(found[0]) == pytest.approx(float(alphas[0]))
    with pytest.raises(SettingsError, match="ends in pure noise already"):
        Process.of("flow_prediction", found, zero_terminal_snr=True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"huber_c": 0.2}, "huber_c is read by loss = huber or smooth_l1; it is l2"),
        ({"logit_std": 2.0}, "logit_std is read by timestep_sampling = logit_normal; it is uniform"),
        ({"noise_offset_random": True}, "needs noise_offset above 0"),
        ({"multires_noise_discount": 0.5}, "needs multires_noise_iterations above 0"),
        ({"debiased_estimation": True, "min_snr_gamma": 5}, "choose one"),
    ],
)
def test_an_option_without_effect_is_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LossFields(**values)  # type: ignore[arg-type]
