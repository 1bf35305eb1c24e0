"""Laws of optimisers: any of a kept library by name, none whose state would be lost, and the learning rate follows its course."""

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers.optimization import get_scheduler

from loraloom.bases import NANO
from loraloom.errors import NotSupported, SettingsError
from loraloom.train import TrainConfig, read_config, resolve
from loraloom.train.config import ResolvedConfig
from loraloom.train.optimizers import state
from loraloom.train.optimizers.course import rate_factor, told
from loraloom.train.optimizers.known import KNOWN
from loraloom.train.optimizers.make import evaluated, make, rate

CPU = torch.device("cpu")


def resolved(**values: Any) -> ResolvedConfig:
    return resolve(TrainConfig.model_validate({"pictures": Path("pictures"), "steps": 40} | values), NANO)


def made(config: ResolvedConfig, *peaks: float) -> tuple[torch.optim.Optimizer, list[torch.nn.Parameter]]:
    parameters = [torch.nn.Parameter(torch.ones(4, 4)) for _ in peaks or (1,)]
    groups = [{"params": [each], "peak": peak} for each, peak in zip(parameters, peaks or (config.learning_rate,), strict=True)]
    return make(groups, config), parameters


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_optimiser_learns_and_survives_a_state(name: str) -> None:
    pytest.importorskip(KNOWN[name].where.split(".")[0])
    config = resolved(optimizer=name)
    state.check_that_it_survives(config, CPU)
    optimizer, (parameter,) = made(config)
    for _ in range(20):
        parameter.grad = torch.full((4, 4), 0.5)
        optimizer.step()
    assert float(parameter.detach().max()) < 1


def test_a_class_of_any_package_is_an_optimiser_with_options() -> None:
    config = resolved(optimizer="torch.optim.RMSprop", optimizer_options=("alpha=0.9", "centered=true", "momentum = 0.5"))
    group = made(config)[0].param_groups[0]
    assert (group["alpha"], group["centered"], group["momentum"], group["lr"]) == (0.9, True, 0.5, config.learning_rate)
    adam, _ = made(resolved(optimizer_options=("betas=0.8,0.9",), weight_decay=0.3))
    assert (adam.param_groups[0]["betas"], adam.param_groups[0]["weight_decay"]) == ((0.8, 0.9), 0.3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer": "adamv"}, 'did you mean "adamw"'),
        ({"optimizer": "no_such_pkg.Adam"}, "pip install no-such-pkg"),
        ({"optimizer": "torch.optim.Adamm"}, "torch.optim has no optimiser class 'Adamm'"),
        ({"optimizer": "os.path.join"}, "has no optimiser class 'join'"),
        ({"optimizer_options": ("beta=1",)}, "has no option 'beta'"),
        ({"optimizer_options": ("betas",)}, "is not name=value"),
        ({"optimizer_options": ("lr=1",)}, "lr is set by --lr"),
        ({"optimizer_options": ("eps=-1",)}, "does not take"),
        ({"optimizer": "prodigy"}, "finds one learning rate for all; it is given 0.5 and 1.0"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(values: dict[str, Any], words: str) -> None:
    if values.get("optimizer") == "prodigy":
        pytest.importorskip("prodigyopt")
    with pytest.raises(SettingsError, match=words):
        made(resolved(**values), 1.0, 0.5)


def test_a_package_that_is_not_installed_is_named_with_the_extra_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lion_pytorch", None)
    with pytest.raises(SettingsError, match=r'needs lion-pytorch, which is not installed; pip install "loraloom\[train\]"'):
        made(resolved(optimizer="lion"))


class Secretive(torch.optim.SGD):
    """Remembers something that its state does not tell."""

    def step(self, closure: Any = None) -> Any:
        self.walked = getattr(self, "walked", 0) + 1
        for group in self.param_groups:
            group["lr"] = 0.1 / self.walked
        return super().step(closure)


class Closed(torch.optim.SGD):
    """Keeps something that is neither a tensor nor a number."""

    def step(self, closure: Any = None) -> Any:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["seen"] = {1, 2}
        return super().step(closure)


@pytest.mark.parametrize(("kind", "words"), [(Secretive, "would not end as a straight one"), (Closed, "not JSON serializable")])
def test_an_optimiser_whose_state_would_be_lost_is_refused(monkeypatch: pytest.MonkeyPatch, kind: type, words: str) -> None:
    module = ModuleType("odd")
    module.Odd = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd", module)
    with pytest.raises(NotSupported, match=f"{words}.*--no-resume"):
        state.check_that_it_survives(resolved(optimizer="odd.Odd"), CPU)
    state.check_that_it_survives(resolved(optimizer="odd.Odd", no_resume=True), CPU)
    with pytest.raises(NotSupported, match="makes no step from gradients alone"):
        state.check_that_it_survives(resolved(optimizer="torch.optim.LBFGS"), CPU)


def test_publishing_a_schedule_free_network_moves_nothing() -> None:
    pytest.importorskip("schedulefree")
    optimizer, (parameter,) = made(resolved(optimizer="adamw_schedulefree"))
    for _ in range(3):
        parameter.grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
        optimizer.step()
    before = parameter.detach().clone()
    with evaluated(optimizer):
        assert not torch.equal(parameter, before)
    assert torch.equal(parameter, before)
    assert optimizer.param_groups[0]["train_mode"] is True


def test_what_prodigy_found_is_its_learning_rate() -> None:
    pytest.importorskip("prodigyopt")
    config = resolved(optimizer="prodigy", components=("unet", "text_encoder"))
    assert (config.learning_rate, config.text_encoder_learning_rate) == (1, 1)
    assert rate(made(config)[0]) == pytest.approx(1e-6)  # its d0


def test_learning_rates_are_told_with_what_multiplies_them() -> None:
    words = told(resolved(rank=8, alpha=4, learning_rate=1e-3, components=("unet", "text_encoder")))
    assert words.startswith("learning rate × alpha/rank: unet 0.001 × 0.5 = 0.0005, text_encoder 0.0005 × 0.5 = 0.00025; adamw, cosine")


COURSES: dict[str, dict[str, Any]] = {
    "constant": {},
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {"restarts": 3},
    "polynomial": {"power": 2.0},
}


@pytest.mark.parametrize("name", COURSES)
def test_courses_are_those_of_diffusers(name: str) -> None:
    config = resolved(scheduler=name, warmup=0, **COURSES[name])
    plain = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = {"num_cycles": 3, "power": 2.0}
    peer = get_scheduler(name, plain, num_warmup_steps=0, num_training_steps=40, **options if name != "cosine" else {})
    for step in range(1, 41):
        assert rate_factor(config, step) == pytest.approx(peer.get_last_lr()[0], abs=1e-6), step
        plain.step()
        peer.step()


def test_rex_falls_late() -> None:  # arXiv:2107.04197
    config = resolved(scheduler="rex", warmup=0)
    for step in range(1, 41):
        left = 1 - (step - 1) / 40
        assert rate_factor(config, step) == pytest.approx(left / (0.5 + 0.5 * left))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"restarts": 2}, "needs the scheduler cosine_with_restarts"),
        ({"power": 2}, "needs the scheduler polynomial"),
        ({"optimizer": "adamw_schedulefree", "scheduler": "cosine"}, "averages what it learned by itself; leave out the scheduler cosine"),
        ({"optimizer": "adamw_schedulefree", "ema": 0.9}, "leave out ema"),
    ],
)
def test_a_course_that_means_nothing_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_config({"pictures": Path("pictures")} | values)


def test_optimisers_bring_their_own_defaults() -> None:
    usual = resolved()
    assert resolved(optimizer="lion").learning_rate == pytest.approx(usual.learning_rate / 5)
    free = resolved(optimizer="adamw_schedulefree")
    assert (free.scheduler, free.learning_rate) == ("constant", usual.learning_rate)
    assert math.isclose(resolved(optimizer="lion", learning_rate=0.3).learning_rate, 0.3)
