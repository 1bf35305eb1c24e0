"""Laws of memory and precision: less of it changes nothing it should not, and what cannot work is refused in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from loraloom import dialects
from loraloom.bases import NANO
from loraloom.bases.nano.model import load
from loraloom.bases.sd1.model import StableDiffusion
from loraloom.errors import NotSupported, SettingsError, TrainingError
from loraloom.train import TrainConfig, TrainingStopped, loss, precision, train
from loraloom.train.average import Average
from loraloom.train.health import Sentinel
from loraloom.train.identity import fingerprint

Job = Callable[..., TrainConfig]


def until(step: int) -> Callable[[], bool]:
    left = iter(range(step - 1, -1, -1))
    return lambda: next(left) == 0


def largest_difference(first: Path, second: Path) -> float:
    ours, others = dialects.read(first, NANO).adapters, dialects.read(second, NANO).adapters
    return max(
        float((tensor - others[target].tensors()[name]).abs().max())
        for target, adapter in ours.items()
        for name, tensor in adapter.tensors().items()
    )


@pytest.mark.parametrize("components", [("unet",), ("unet", "text_encoder")], ids="+".join)
def test_layers_that_are_computed_twice_give_the_same_bits(job: Job, nano: Any, tmp_path: Path, components: tuple[str, ...]) -> None:
    calls = []
    handle = nano.unet.up_blocks[0].resnets[0].register_forward_pre_hook(lambda *_: calls.append(None))
    text = nano.text_encoder.encoder.layers[0].self_attn.out_proj.register_forward_pre_hook(lambda *_: calls.append(None))
    plain = train(job(steps=3, components=components, dtype="float32", output=tmp_path / "plain"), nano, NANO)
    once = len(calls)
    twice = train(job(steps=3, components=components, dtype="float32", checkpointing=True), nano, NANO)
    handle.remove()
    text.remove()
    assert twice.hash == plain.hash
    trained = 3 * len(components)  # passes through the counted layers that have a backward pass
    assert len(calls) - once == once + trained
    assert not any(getattr(module, "gradient_checkpointing", False) for module in (*nano.unet.modules(), *nano.text_encoder.modules()))
    assert not any(module.training or module._forward_hooks for module in nano.text_encoder.modules())


def test_mixed_precision_is_near_the_whole_one(job: Job, nano: Any, tmp_path: Path) -> None:
    whole = train(job(steps=2, dtype="float32", output=tmp_path / "whole"), nano, NANO)
    mixed = train(job(steps=2, dtype="float32", mixed_precision="bfloat16"), nano, NANO)
    assert mixed.hash != whole.hash
    assert mixed.final_loss == pytest.approx(whole.final_loss, rel=0.02)


def test_float16_products_need_a_gpu(job: Job, nano: Any) -> None:
    with pytest.raises(NotSupported, match="needs a GPU; on a CPU use bfloat16 or no"):
        train(job(mixed_precision="float16"), nano, NANO)
    with pytest.raises(NotSupported, match="a float16 base needs a GPU"):
        train(job(base_dtype="float16", mixed_precision="bfloat16"), nano, NANO)


def test_a_base_is_held_in_the_numbers_that_are_asked_for(job: Job) -> None:
    base = load()
    assert train(job(steps=2, base_dtype="bfloat16"), base, NANO).final_loss > 0
    assert {str(weight.dtype) for weight in base.unet.parameters()} == {"torch.bfloat16"}


@pytest.mark.parametrize(
    ("dtype", "package", "near"), [("int8", "torchao", 0.02), ("float8", "torchao", 0.05), ("nf4", "bitsandbytes", 0.2)]
)
def test_a_quantised_base_trains_much_like_a_whole_one(job: Job, tmp_path: Path, dtype: str, package: str, near: float) -> None:
    pytest.importorskip(package)
    whole = train(job(steps=2, output=tmp_path / "whole"), load(), NANO)
    base = load()
    found = train(job(steps=2, base_dtype=dtype, components=("unet", "text_encoder")), base, NANO)
    assert found.final_loss == pytest.approx(whole.final_loss, rel=near)
    assert found.hash != whole.hash
    with pytest.raises(NotSupported, match="is quantised already; load the base anew"):
        train(job(steps=2, base_dtype=dtype, overwrite=True), base, NANO)


@pytest.mark.parametrize(("dtype", "package"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_what_quantises_is_named_where_it_is_missing(job: Job, dtype: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchao.quantization" if package == "torchao" else "bitsandbytes.nn", None)
    with pytest.raises(NotSupported, match=rf'needs {package}, .*pip install "loraloom\[quantise\]"'):
        train(job(base_dtype=dtype), load(), NANO)


def test_an_average_is_published_and_the_state_goes_on_bit_for_bit(job: Job, nano: Any, tmp_path: Path) -> None:
    options = {"steps": 6, "dtype": "float32", "ema": 0.9}
    straight = train(job(**options, output=tmp_path / "straight"), nano, NANO)
    plain = train(job(**options | {"ema": 0.0}, output=tmp_path / "plain"), nano, NANO)
    assert plain.hash != straight.hash
    with pytest.raises(TrainingStopped):
        train(job(**options), nano, NANO, stop=until(4))
    assert train(job(**options, resume=True), nano, NANO).hash == straight.hash


class Walk:
    """A network of one tensor, in place of the trainable."""

    def __init__(self, *values: float) -> None:
        self.values, self.parameter = values, torch.nn.Parameter(torch.zeros(()))
        self.rested: frozenset[Any] = frozenset()

    def slots(self) -> Any:
        yield "unet.a", "up", self.parameter


def test_the_average_is_its_formula() -> None:
    network, expected = Walk(), 0.0
    average = Average(network, 0.5)  # type: ignore[arg-type]
    for step, value in enumerate((1.0, 5.0, 2.0, 7.0, 3.0, 1.0, 4.0, 2.0, 6.0, 8.0), 1):
        network.parameter.data.fill_(value)
        average.update(step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * value
        assert float(average.values["unet.a.up"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "name",
    ["prodigy", "adamw_schedulefree", *(pytest.param(name, marks=pytest.mark.long) for name in ("lion", "adafactor", "sgd", "adamw8bit"))],
)
def test_a_run_with_any_optimiser_goes_on_bit_for_bit(job: Job, nano: Any, tmp_path: Path, name: str) -> None:
    for package in {
        "prodigy": "prodigyopt",
        "lion": "lion_pytorch",
        "adamw_schedulefree": "schedulefree",
        "adamw8bit": "bitsandbytes",
    }.items():
        if package[0] == name:
            pytest.importorskip(package[1])
    options = {"steps": 4, "dtype": "float32", "optimizer": name, "save_every": 3}
    straight = train(job(**options, output=tmp_path / "straight"), nano, NANO)
    with pytest.raises(TrainingStopped):
        train(job(**options), nano, NANO, stop=until(2))
    assert train(job(**options, resume=True), nano, NANO).hash == straight.hash


def test_without_a_state_nothing_is_saved_and_it_is_said(job: Job, nano: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped, match="no state was kept, so a run starts anew"):
        train(job(no_resume=True, save_every=1), nano, NANO, stop=until(2))
    assert not (tmp_path / "out" / "zvz.state").exists()


LOSSES: dict[str, dict[str, Any]] = {
    "huber": {"loss": "huber", "huber_schedule": "exponential"},
    "smooth": {"loss": "smooth_l1", "min_snr_gamma": 0},
    "l1": {"loss": "l1", "debiased_estimation": True},
    "noise": {"multires_noise_iterations": 6, "input_perturbation": 0.1, "noise_offset": 0.1, "noise_offset_random": True},
    "timesteps": {"timestep_sampling": "logit_normal", "timestep_shift": 3.0, "min_timestep": 100, "zero_terminal_snr": True},
}


@pytest.mark.parametrize(
    "kind", ["noise", "timesteps", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("huber", "smooth", "l1"))]
)
def test_every_loss_and_noise_goes_on_bit_for_bit(job: Job, nano: Any, tmp_path: Path, kind: str) -> None:
    options = {"steps": 3, "dtype": "float32", **LOSSES[kind]}
    straight = train(job(**options, output=tmp_path / "straight"), nano, NANO)
    assert straight.hash != train(job(steps=3, dtype="float32", output=tmp_path / "plain"), nano, NANO).hash
    with pytest.raises(TrainingStopped):
        train(job(**options), nano, NANO, stop=until(2))
    assert train(job(**options, resume=True), nano, NANO).hash == straight.hash


def test_a_flow_base_trains(job: Job) -> None:
    base = load()
    base.scheduler = FlowMatchEulerDiscreteScheduler()
    seen = StableDiffusion(base)
    assert seen.prediction == "flow_prediction"
    before = fingerprint(seen)
    result = train(job(min_snr_gamma=0, timestep_sampling="logit_normal"), base, NANO)
    assert dialects.read(result.path).metadata["modelspec.prediction_type"] == "flow"
    assert fingerprint(seen) == before
    with pytest.raises(SettingsError, match="ends in pure noise already"):
        train(job(zero_terminal_snr=True, overwrite=True), base, NANO)


def test_a_run_goes_on_after_overflows_bit_for_bit(job: Job, nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = loss.per_sample
    monkeypatch.setattr(loss, "per_sample", lambda *values: plain(*values) * 2.0**20)  # float32 ends at 2^128: the first steps overflow
    monkeypatch.setattr(precision, "scaler", lambda *_: torch.amp.GradScaler("cpu", init_scale=2.0**110))
    options = {"steps": 12, "dtype": "float32", "learning_rate": 1e-2}
    straight = train(job(**options, output=tmp_path / "straight"), nano, NANO)
    assert any("is left out because float16 overflows at a loss scale of" in note for note in straight.notes)
    with pytest.raises(TrainingStopped):
        train(job(**options), nano, NANO, stop=until(5))
    assert train(job(**options, resume=True), nano, NANO).hash == straight.hash


def test_an_overflow_is_left_out_and_told_until_it_cannot_be_helped() -> None:
    sentinel = Sentinel()
    sentinel.overflown(65536, ["a.png"], 1)
    sentinel.overflown(32768, ["a.png"], 2)
    assert len(told := sentinel.news()) == 1
    assert "step 1 is left out because float16 overflows at a loss scale of 65536" in told[0]
    with pytest.raises(TrainingError, match=r"overflows with a\.png even without loss scaling"):
        sentinel.overflown(1, ["a.png", "a.png"], 3)


def test_a_tensor_without_gradients_is_told_after_the_first_steps() -> None:
    network, sentinel = Walk(), Sentinel()
    dead = torch.nn.Parameter(torch.zeros(2))
    network.slots = lambda: iter([("unet.a", "up", network.parameter), ("unet.a", "down", dead)])  # type: ignore[method-assign]
    for step in range(1, 5):
        network.parameter.grad, dead.grad = torch.ones(()), torch.zeros(2)
        sentinel.look(network, step)  # type: ignore[arg-type]
    assert sentinel.news() == ("1 tensors got no gradient in 3 steps and learn nothing so far: unet.a.down",)
