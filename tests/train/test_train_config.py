"""Laws of the job: what is not given is decided by the family, and what means nothing is refused in words."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loraloom.bases import BASES, NANO, SD1, SDXL, TINY
from loraloom.errors import SettingsError
from loraloom.train import ResolvedConfig, TrainConfig, read_config, resolve
from loraloom.train.defaults import DEFAULTS
from loraloom.train.optimizers.course import rate_factor
from loraloom.train.targets import plan
from loraloom.train.view import VIEWS

P = Path("pictures")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pictures": P, "rnak": 4}, ["'rnak'", 'did you mean "rank"']),
        ({"trigger": "zvz"}, ["pictures is missing"]),
        ({"pictures": P, "rank": 0}, ["rank = 0", "greater than or equal to 1"]),
        ({"pictures": P, "learning_rate": -1}, ["learning_rate = -1", "greater than 0"]),
        ({"pictures": P, "learning_rate": float("nan")}, ["learning_rate = nan", "finite"]),
        ({"pictures": P, "scheduler": "linar"}, ["scheduler = 'linar'", "'constant', 'linear', 'cosine'"]),
        ({"pictures": P, "caption_dropout": 2}, ["caption_dropout = 2"]),
        ({"pictures": P, "tucker": True}, ["conv_rank above 0"]),
        ({"pictures": P, "type": "lroa"}, ["'lroa'", 'did you mean "lora"']),
        (
            {"pictures": P, "components": ("unet",), "text_encoder_learning_rate": 1e-5},
            ["components has no text encoder", "te names them all"],
        ),
        ({"pictures": P, "dtype": "float8"}, ["dtype = 'float8'"]),
        ({"pictures": P, "rank": 0, "steps": 0}, ["rank = 0", "steps = 0"]),
    ],
)
def test_what_means_nothing_is_refused_in_words(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        read_config(values)
    for word in words:
        assert word in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize("base", [base for base in BASES if base.family in DEFAULTS], ids=lambda base: base.family)
def test_a_resolved_job_has_nothing_open(base) -> None:
    resolved = resolve(TrainConfig(pictures=P), base)
    assert isinstance(resolved, ResolvedConfig)
    assert [name for name, value in resolved if value is None] == ["warm_start", "sample_file"]  # whose prompts are among the others


def test_every_family_that_trains_has_defaults_and_a_view() -> None:
    assert DEFAULTS.keys() == VIEWS.keys()


def test_a_family_that_does_not_train_yet_is_refused_in_words() -> None:
    with pytest.raises(SettingsError, match="training SD 3 is not possible yet; families that train are tiny, sd1, sd2, sdxl"):
        resolve(TrainConfig(pictures=P), replace(SD1, family="sd3", title="SD 3"))


def test_what_is_given_counts_and_alpha_follows_the_rank() -> None:
    resolved = resolve(TrainConfig(pictures=P, rank=32, steps=50, min_snr_gamma=0, components=("unet", "text_encoder")), TINY)
    assert (resolved.rank, resolved.alpha, resolved.steps, resolved.min_snr_gamma) == (32, 32, 50, 0)
    assert resolved.text_encoder_learning_rate == resolved.learning_rate / 2
    assert resolve(TrainConfig(pictures=P, alpha=1), SD1).alpha == 1


@pytest.mark.parametrize(
    ("base", "values", "components"),
    [
        (SDXL, {}, "unet"),
        (SDXL, {"text_encoder_learning_rate": 1e-5}, "unet text_encoder text_encoder_2"),
        (SD1, {"preset": "character"}, "unet text_encoder"),
        (SDXL, {"preset": "character", "text_encoder_learning_rate": 1e-5}, "unet text_encoder text_encoder_2"),
        (SDXL, {"components": ("te",)}, "text_encoder text_encoder_2"),
        (SDXL, {"components": ("text_encoder_2", "unet", "te"), "text_encoder_learning_rate": 1e-5}, "text_encoder_2 unet text_encoder"),
    ],
)
def test_a_rate_for_text_encoders_and_te_mean_all_that_the_base_has(base, values: dict[str, object], components: str) -> None:
    assert resolve(TrainConfig.model_validate({"pictures": P} | values), base).components == tuple(components.split())


def test_a_component_that_the_base_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match='has no text_encoder_2; did you mean "text_encoder"'):
        resolve(TrainConfig(pictures=P, components=("unet", "text_encoder_2")), SD1)
    with pytest.raises(SettingsError, match="has no x; it has unet, text_encoder"):
        resolve(TrainConfig(pictures=P, components=("x",)), SD1)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"trigger": "zvz"}, "zvz.safetensors"),
        ({"trigger": "a b/../c"}, "a_b_.._c.safetensors"),
        ({}, "pictures.safetensors"),
        ({"output": Path("x/y.v1")}, "x/y.v1.safetensors"),
        ({"output": Path("y.safetensors")}, "y.safetensors"),
        ({"output": "runs/", "trigger": "zvz"}, "runs/zvz.safetensors"),
        ({"output": "runs/y.safetensors/", "trigger": "zvz"}, "runs/y.safetensors/zvz.safetensors"),
    ],
)
def test_the_output_always_has_a_name_with_the_ending(values: dict[str, object], name: str) -> None:
    assert resolve(TrainConfig.model_validate({"pictures": P} | values), NANO).output == Path(name)


@pytest.mark.parametrize(
    ("base", "options", "count"),
    [
        (SD1, {}, 192),
        (SD1, {"conv_rank": 4}, 278),
        (SD1, {"components": ("text_encoder",)}, 72),
        (SDXL, {}, 722),
        (SDXL, {"conv_rank": 4}, 788),
        (SDXL, {"components": ("text_encoder",)}, 66),  # less its last layer, which SDXL does not read
        (SDXL, {"components": ("text_encoder_2",)}, 192),
    ],
    ids=str,
)
def test_targets_are_kohyas_choice(base, options: dict[str, object], count: int) -> None:  # counts: formats.md §6
    planned = plan(resolve(TrainConfig.model_validate({"pictures": P} | options), base), base)
    assert len(planned) == count
    assert {item.rank for item in planned if item.layer.shape[2:] == (3, 3)} <= {4}


@pytest.mark.parametrize("scheduler", ["constant", "cosine"])
def test_the_learning_rate_rises_then_follows_its_course_and_is_never_zero(scheduler: str) -> None:
    resolved = resolve(TrainConfig.model_validate({"pictures": P, "steps": 40, "warmup": 4, "scheduler": scheduler}), NANO)
    factors = [rate_factor(resolved, step) for step in range(1, 41)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert min(factors) > 0
    assert max(factors) == 1
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert (factors[-1] == 1) == (scheduler == "constant")


def test_describing_a_job_loads_no_torch() -> None:
    code = "import sys, loraloom.train, loraloom.cli.train; sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
