"""Laws of what happens to adapters while they learn: dropouts, rates, norms, and a beginning that is not nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import network

from loraloom import dialects
from loraloom.bases import NANO, SD1, SD2, SDXL
from loraloom.dialects.metadata import stamped
from loraloom.errors import DialectCannotHold, SettingsError, WrongBase
from loraloom.lorafile import LoraFile
from loraloom.train import TrainConfig, TrainingStopped, resolve, train
from loraloom.train.metadata import family_told
from loraloom.train.norms import delta_norm
from loraloom.train.rates import parameter_groups
from loraloom.train.targets import plan
from loraloom.train.trainable import Trainable, fresh
from loraloom.train.view import view

Job = Callable[..., TrainConfig]
RESTING: dict[str, Any] = {"dropout": 0.2, "rank_dropout": 0.3, "module_dropout": 0.3}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return {
        f"{target}.{name}": each for target, adapter in dialects.read(path).adapters.items() for name, each in adapter.tensors().items()
    }


def test_a_run_with_dropouts_that_was_stopped_equals_a_straight_one(job: Job, nano: Any, tmp_path: Path) -> None:
    straight = train(job(**RESTING, output=tmp_path / "straight"), nano, NANO)
    left = iter(range(2, -1, -1))
    with pytest.raises(TrainingStopped):
        train(job(**RESTING), nano, NANO, stop=lambda: next(left) == 0)
    assert train(job(**RESTING, resume=True), nano, NANO).hash == straight.hash
    assert straight.hash != train(job(output=tmp_path / "without"), nano, NANO).hash


def test_dropouts_do_not_depend_on_the_company_in_a_pass(job: Job, nano: Any) -> None:
    same = {**RESTING, "steps": 2, "dtype": "float32", "components": ("unet", "text_encoder")}
    whole = tensors(train(job(**same, batch=4), nano, NANO).path)
    parts = tensors(train(job(**same, batch=2, accumulate=2, overwrite=True), nano, NANO).path)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=1e-4, rtol=1e-3)  # as without dropouts: Adam divides by small roots


@pytest.mark.parametrize("option", RESTING)
def test_what_stays_has_the_mean_of_all(job: Job, nano: Any, option: str) -> None:
    """Of many pictures; a module is all there or not, so its mean is less by the part that rests."""
    from loraloom.train.chance import Sample
    from loraloom.train.dropout import Dropout

    resolved, seen = resolve(job(), NANO), view(nano, NANO)
    target, adapter = next(iter(fresh(plan(resolved, NANO)[:1], seen, NANO, seed=0).items()))
    adapter = adapter.with_tensors({"up": torch.ones_like(adapter.up)})
    layer = Trainable(seen, NANO, {target: adapter})._layers[target]
    x = torch.randn(1, layer.weight.shape[1], *[1] * (layer.weight.ndim - 2))
    y, kept = layer(x), []
    resting = Dropout(*(0.25 if name == option else 0.0 for name in RESTING))
    for step in range(3000):
        kept.append(resting.branch(adapter, target, (Sample(0, step, 0, "a"),), layer, x, y)[0])
    expected = adapter.branch(layer, x, y) * (0.75 if option == "module_dropout" else 1)
    spread = torch.stack(kept).std(0)
    assert spread.min() > 0
    assert ((torch.stack(kept).mean(0) - expected).abs() < 5 * spread / 3000**0.5).all()  # five standard errors


def test_the_tensors_that_begin_at_zero_learn_faster_with_lora_plus(job: Job, nano: Any) -> None:
    given = job(type="loha", lora_plus=16, learning_rate=1e-3, targets=("attn1", "attn2=lokr:factor=2:full_matrix:dora:lr_factor=0.5"))
    resolved = resolve(given, NANO)
    seen, planned = view(nano, NANO), plan(resolved, NANO)
    adapters = fresh(planned, seen, NANO, seed=0)
    trained = Trainable(seen, NANO, adapters, rates={item.layer.target: item.rate for item in planned})
    by_place = {
        id(each): f"{target.module.split('.')[-2 - target.module.count('to_out')]} {field}" for target, field, each in trained.slots()
    }
    found: dict[tuple[float, bool], set[str]] = {}
    for group in parameter_groups(trained, resolved):
        found.setdefault((group["peak"], "weight_decay" not in group), set()).update(by_place[id(each)] for each in group["params"])
    assert found == {
        (1e-3, True): {"attn1 w1_a", "attn1 w1_b", "attn1 w2_b"},
        (16e-3, True): {"attn1 w2_a"},
        (0.5e-3, True): {"attn2 w1"},
        (8e-3, True): {"attn2 w2"},
        (0.5e-3, False): {"attn2 magnitude"},
    }
    for target, name, parameter in trained.slots():
        assert (name in adapters[target].late) == (not parameter.any())


@pytest.mark.parametrize("kind", ["lora", "loha", "glora", "lora:dora"])
def test_no_delta_is_longer_than_max_norm(job: Job, nano: Any, kind: str) -> None:
    free = dialects.read(train(job(type=kind, steps=2, learning_rate=1.0, dtype="float32"), nano, NANO).path)
    bound = dialects.read(
        train(job(type=kind, steps=2, learning_rate=1.0, dtype="float32", max_norm=0.05, overwrite=True), nano, NANO).path
    )
    weights = Trainable(view(nano, NANO), NANO, free.adapters)
    norms = [[delta_norm(adapter, weights.weight(target)) for target, adapter in file.adapters.items()] for file in (free, bound)]
    assert max(norms[0]) > 0.1
    assert 0.049 < max(norms[1]) <= 0.05 * (1 + 1e-5)


def test_a_warm_start_goes_on_with_types_ranks_and_scales_of_the_file(job: Job, nano: Any, tmp_path: Path) -> None:
    mixed = {"targets": ("attn1=lokr:factor=2", "attn2=lora:3:alpha=5"), "dtype": "float32"}
    first = train(job(**mixed), nano, NANO).path
    second = train(job(warm_start=first, steps=1, learning_rate=1e-12, dtype="float32", output=tmp_path / "second"), nano, NANO).path
    for name, tensor in tensors(first).items():
        torch.testing.assert_close(tensors(second)[name], tensor, atol=1e-6, rtol=1e-6)
    told = dialects.read(second).metadata
    assert json.loads(told["loraloom.train"])["warm_start"] == "zvz.safetensors"


def test_a_warm_start_that_was_stopped_equals_a_straight_one_and_knows_its_file(job: Job, nano: Any, tmp_path: Path) -> None:
    first = train(job(output=tmp_path / "first"), nano, NANO).path
    straight = train(job(warm_start=first, output=tmp_path / "straight"), nano, NANO)
    left = iter(range(2, -1, -1))
    with pytest.raises(TrainingStopped):
        train(job(warm_start=first), nano, NANO, stop=lambda: next(left) == 0)
    moved = first.rename(tmp_path / "moved.safetensors")
    assert train(job(warm_start=moved, resume=True), nano, NANO).hash == straight.hash


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"type": "loha"}, r"has lora on unet\..*, this job asks for loha"),
        ({"rank": 8}, r"has rank 4 on unet\..*, this job asks for 8"),
        ({"alpha": 1}, r"has alpha/rank 1 on unet\..*, this job asks for 0\.25"),
        ({"targets": ("attn1",)}, r"has \d+ modules that this job does not train \(unet\."),
        ({"components": ("text_encoder",)}, "has unet too, this job trains text_encoder"),
    ],
)
def test_a_warm_start_that_is_something_else_is_refused_with_both(
    job: Job, nano: Any, tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    first = train(job(steps=1, output=tmp_path / "first"), nano, NANO).path
    with pytest.raises(SettingsError, match=words):
        train(job(warm_start=first, **values), nano, NANO)


def test_a_warm_start_of_another_family_is_refused_with_both(job: Job, nano: Any, tmp_path: Path) -> None:
    some = network(SD1, lambda layer: "attn2.to_k" in str(layer.target), share=0.2)
    path = dialects.write(LoraFile(some.adapters, {}, "sd1"), tmp_path / "sd1.safetensors")
    with pytest.raises(WrongBase, match=r"made for SD 1\.x.*the base is loraloom nano 1"):
        train(job(warm_start=path), nano, NANO)


def test_a_type_that_the_naming_cannot_hold_is_refused_before_the_first_step(job: Job, nano: Any, tmp_path: Path) -> None:
    with pytest.raises(DialectCannotHold, match="write it in kohya naming"):
        train(job(type="lokr", dialects="peft"), nano, NANO)
    assert not list((tmp_path / "out").iterdir())


def test_a_size_that_a_type_does_not_have_is_named(job: Job, nano: Any) -> None:
    with pytest.raises(SettingsError, match=r"text_encoder\..*: boft: 24 rows cannot be halved down to blocks of 4.*--target '!"):
        train(job(type="boft", components=("text_encoder",)), nano, NANO)


@pytest.mark.parametrize(
    ("base", "prediction", "expected"),
    [
        (SD1, "epsilon", ("False", "sd_v1", "stable-diffusion-v1/lora")),
        (SD2, "epsilon", ("True", "sd_v2", "stable-diffusion-v2-512/lora")),
        (SD2, "v_prediction", ("True", "sd_v2_v", "stable-diffusion-v2-768-v/lora")),
        (SDXL, "epsilon", ("False", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora")),
    ],
    ids=str,
)
def test_metadata_says_which_kind_of_its_family_a_base_is(base: Any, prediction: Any, expected: tuple[str, ...]) -> None:
    told = stamped(family_told(base, prediction), {}, base, {})
    assert tuple(told[key] for key in ("ss_v2", "ss_base_model_version", "modelspec.architecture")) == expected


def test_metadata_says_what_lycoris_says(job: Job, nano: Any) -> None:
    options = {"type": "lokr:factor=4:decompose_both", "dora": True, "rslora": True, "rank": 2, "alpha": 1, "lora_plus": 8, "max_norm": 3.0}
    told = dialects.read(train(job(steps=1, **options, dropout=0.1, module_dropout=0.25), nano, NANO).path).metadata
    assert told["ss_network_module"] == "lycoris.kohya"
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("2", "1.0")
    assert json.loads(told["ss_network_args"]) == {
        "algo": "lokr", "preset": "attn-mlp", "factor": "4", "decompose_both": "True", "dora_wd": "True", "rs_lora": "True",
        "module_dropout": "0.25", "loraplus_lr_ratio": "8.0",
    }  # fmt: skip
    assert (told["ss_network_dropout"], told["ss_scale_weight_norms"]) == ("0.1", "3.0")
