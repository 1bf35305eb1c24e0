"""Laws of types and targets in words: one small grammar, every mistake named with what comes nearest."""

from pathlib import Path
from typing import Any

import pytest

from loraloom.adapters import TYPES, DoRA, LoKr, LoRA, Norm
from loraloom.bases import NANO, NANOXL, SD1, Base
from loraloom.errors import SettingsError
from loraloom.train import TrainConfig, read_config, resolve
from loraloom.train.config.recipe import TRAINED, options_of
from loraloom.train.targets import Planned, plan


def planned(base: Base = NANO, **values: Any) -> dict[str, Planned]:
    """What a job trains, by the modules' names."""
    job = resolve(read_config({"pictures": Path("pictures"), **values}), base)
    return {str(item.layer.target): item for item in plan(job, base)}


BOTH = ("unet", "text_encoder")


def test_every_type_but_the_residue_of_an_extraction_is_trained() -> None:
    assert set(TRAINED) == {kind.name for kind in TYPES if "+" not in kind.name}


@pytest.mark.parametrize(
    ("text", "kind", "options"),
    [
        ("lora", LoRA, {}),
        ("lokr:factor=8:full_matrix", LoKr, {"factor": 8, "full_matrix": True}),
        ("LoKr : factor = 8 : full_matrix=no", LoKr, {"factor": 8, "full_matrix": False}),
        ("lora:dora", DoRA.around(LoRA), {}),
        ("lora+dora:on_input", DoRA.around(LoRA), {"on_input": True}),
    ],
)
def test_a_type_says_its_options(text: str, kind: type, options: dict[str, Any]) -> None:
    assert {(item.kind, str(dict(item.options))) for item in planned(type=text).values()} == {(kind, str(options))}


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_every_option_has_a_type_that_a_word_can_be(kind: Any) -> None:
    assert set(options_of(kind).values()) <= {bool, int, float}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"type": "lokr:facter=8"}, "lokr has no option 'facter'; did you mean \"factor\""),
        ({"type": "lokr:factor=x"}, "factor = 'x' is not a whole number"),
        ({"type": "lokr:full_matrix=8"}, "full_matrix = '8' is not true or false"),
        ({"type": "lora:16"}, "rank, alpha and learning rate of the job have options of their own"),
        ({"type": "lora:on_input"}, "on_input is an option of DoRA; add dora"),
        ({"type": "ia3", "dora": True}, "ia3 scales what DoRA's magnitudes scale anew"),
        ({"type": "lokr:factor=8:factor=4"}, "says factor twice"),
        ({"type": "oft_diag"}, 'did you mean "oft-diag"'),
        ({"targets": ["attn1=lokr:facter=8"]}, 'did you mean "factor"'),
        ({"targets": ["attn1=lroa"]}, 'did you mean "lora"'),
        ({"targets": ["=lora"]}, "has no pattern"),
        ({"targets": ["!attn1=lora"]}, "leaves modules alone, so nothing comes after"),
        ({"targets": ["attn1=lora:0"]}, "rank = 0 is not greater than 0"),
        ({"targets": ["attn1=:alpha=-1"]}, "alpha = -1.0 is not greater than 0"),
        ({"targets": ["atn1*"]}, 'fits no module of unet that it could train; did you mean "attn1"'),
        ({"targets": ["q_proj"]}, "it fits modules of text_encoder: add --component text_encoder"),
        ({"targets": ["norm1"]}, "norm1 is a norm, which only the type norm trains; write norm1=norm"),
        ({"targets": ["attn1=norm"]}, "is no norm, and the type norm trains nothing else"),
        ({"targets": ["token_embedding"], "components": ["te"]}, "is an embedding, and no type trains those"),
        ({"targets": ["mid/attn1/out"]}, "fits no module of unet"),
        ({"type": "oft", "rslora": True}, "rslora: oft has no alpha/rank"),
        ({"type": "oft", "dropout": 0.1}, "dropout: oft changes what the layer gives"),
        ({"type": "boft:dora", "max_norm": 1.0}, "max_norm: boft turns weights; use its option constraint"),
        ({"type": "ia3", "rank_dropout": 0.1}, "rank_dropout: ia3 has no ranks"),
        ({"type": "full", "lora_plus": 4}, "lora_plus: full has no tensor that begins at 0"),
        ({"type": "glora", "tucker": True, "conv_rank": 2}, "glora has no Tucker core"),
    ],
    ids=str,
)
def test_a_mistake_is_named_with_what_comes_nearest(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        planned(**values)
    assert words in str(caught.value)


def test_the_last_rule_that_fits_counts() -> None:
    found = planned(targets=["attn*=lora:16", "*.resnets.*=lokr:factor=8", "!*time_emb*", "out/attn2=loha:2"], conv_rank=0)
    kinds = {name: item.kind.name for name, item in found.items()}
    assert {kind for name, kind in kinds.items() if ".resnets." in name} == {"lokr"}
    assert {kind for name, kind in kinds.items() if ".attn1." in name} == {"lora"}
    assert {kind for name, kind in kinds.items() if "up_blocks" in name and ".attn2." in name} == {"loha"}
    assert not [name for name in kinds if "time_emb" in name or ".ff." in name or "conv_in" in name]
    assert {item.rank for item in found.values() if item.kind is LoRA} == {16}


def test_only_exclusions_take_from_the_usual_choice() -> None:
    usual = planned()
    assert planned(targets=["!attn1"]).keys() == {name for name in usual if ".attn1." not in name}


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("in/default", "down_blocks"),
        ("mid/default", "mid_block"),
        ("out/default", "up_blocks"),
        ("default/unet.up_blocks.1.*", "up_blocks.1."),
    ],
)
def test_thirds_are_those_of_prompts(pattern: str, part: str) -> None:
    assert planned(targets=[pattern]).keys() == {name for name in planned() if part in name}


def test_block_numbers_are_those_of_block_weights() -> None:
    found = planned(SD1, targets=["4-5/default"])  # IN04 and IN05
    assert {name.split(".transformer_blocks")[0].removesuffix(".proj_in").removesuffix(".proj_out") for name in found} == {
        "unet.down_blocks.1.attentions.0",
        "unet.down_blocks.1.attentions.1",
    }
    assert planned(SD1, targets=["12/default"]).keys() == planned(SD1, targets=["mid/default"]).keys()


def test_text_encoders_have_words() -> None:
    every = ("unet", "text_encoder", "text_encoder_2")
    found = planned(NANOXL, components=every, targets=["te1/*_proj=lora:2", "te2/fc?=lora:3:lr_factor=0.5", "unet/to_q"])
    assert {name.split(".")[0]: (item.rank, item.rate) for name, item in found.items()} == {
        "text_encoder": (2, 1), "text_encoder_2": (3, 0.5), "unet": (4, 1),
    }  # fmt: skip


def test_what_the_base_does_not_read_is_not_trained() -> None:
    found = planned(NANOXL, components=("text_encoder",))
    assert found
    assert not [name for name in found if ".layers.1." in name]
    with pytest.raises(SettingsError, match="is not read by loraloom nanoxl 1, so it would learn nothing"):
        planned(NANOXL, components=("text_encoder",), targets=["*.layers.1.*"])


def test_norms_are_trained_as_norms_only() -> None:
    found = planned(targets=["default", "*norm*=norm"], dora=True)
    assert {item.kind for item in found.values() if item.layer.kind == "norm"} == {Norm}
    assert {item.kind for item in found.values() if item.layer.kind != "norm"} == {DoRA.around(LoRA)}
    norms = {str(layer.target) for layer in NANO.layers if layer.kind == "norm" and layer.target.component == "unet"}
    assert {name for name, item in found.items() if item.kind is Norm} == norms


def test_a_rank_of_its_own_keeps_the_ratio_of_alpha() -> None:
    found = planned(rank=8, alpha=4, targets=["default", "attn1=:16", "attn2=:16:alpha=2"])
    scales = {(item.rank, item.alpha) for item in found.values()}
    assert scales == {(8, 4), (16, 8), (16, 2)}


def test_rslora_is_baked_into_alpha() -> None:
    assert {item.alpha for item in planned(rank=16, alpha=8, rslora=True).values()} == {8 * 4}  # alpha/√r = (alpha·√r)/r


def test_kernels_take_the_rank_of_convolutions() -> None:
    found = planned(targets=["default", "conv1"], conv_rank=2, rank=4)
    assert {item.rank for item in found.values() if len(item.layer.shape) == 4 and item.layer.shape[2] == 3} == {2}


def test_a_job_says_rules_in_its_fields() -> None:
    job = TrainConfig(pictures=Path("p"), targets=("attn1=lora:16", "!attn2"))
    assert [(rule.parts, rule.recipe is None) for rule in job.rules] == [(("attn1",), False), (("attn2",), True)]
