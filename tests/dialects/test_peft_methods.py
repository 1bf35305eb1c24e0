"""Every method and option of the installed PEFT: read with PEFT's own output, or refused by name. Never a part of it in silence.

Tolerance: 1e-5 of the largest output in float32 (product.md §6); where the base's own decomposition is in it, 1e-4: LAPACK's float32
singular vectors are exact to eps · σ₁ / gap, about 1e-5 for nano's weights, and PEFT rounds the rest of the weight once more.
"""

import copy
import dataclasses
import json

import peft
import pytest
import torch
from judging import attached, outputs, randomise
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType
from support import close, everything, network

from loraloom.adapters import DoRA
from loraloom.adapters.residual import OLoRA, PiSSA
from loraloom.bases import NANO, Target
from loraloom.bases.nano.model import load
from loraloom.catalogue.inspecting import fit, inspect
from loraloom.dialects import peftoptions, read, write
from loraloom.dialects.folder import CONFIG, WEIGHTS
from loraloom.dialects.metadata import PEFT_CONFIG
from loraloom.errors import DialectCannotHold, LoraError, UnknownFormat
from loraloom.rewrite import rewrite
from loraloom.tensorfile import Header

TARGETS = ["attn1.to_q", "attn2.to_k", "to_out.0", "ff.net.2"]
NEEDED = {  # what a method wants besides its targets to fit nano's small layers
    "ADALORA": {"total_step": 100},
    "IA3": {"feedforward_modules": ["ff.net.2"], "target_modules": ["to_k", "to_v", "ff.net.2"]},
    "FOURIERFT": {"n_frequency": 20},
    "WAVEFT": {"n_frequency": 20},
    "VBLORA": {"vector_length": 4, "num_vectors": 8},
    "MISS": {"r": 2},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 2},
    "C3A": {"block_size": 4},
    "PSOFT": {"r": 4},
    "LOKR": {"r": 2},
    "OFT": {"oft_block_size": 4},
}
# They wrap no layer of a UNet: language models, their prompts, or packages that are not installed.
ELSEWHERE = {
    *("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE", "ADAPTION_PROMPT"),
    *("XLORA", "SHADOW", "ADAMSS", "FROD"),
}


@pytest.fixture(scope="module")
def clean():
    return load()


def made(pipeline, config, folder):
    """PEFT's own files of the UNet, with random values in what is trained."""
    unet = peft.get_peft_model(pipeline.unet, config)
    randomise(unet)
    unet.save_pretrained(folder)


def saved(pipeline, config, folder):
    """The same, and PEFT's own output."""
    made(pipeline, config, folder)
    return outputs(pipeline)


def test_every_method_and_option_of_the_installed_peft_is_in_the_tables():
    assert {kind.value for kind in PeftType} <= {*peftoptions.METHODS, *peftoptions.OTHER_METHODS}
    options = {field.name for name in peftoptions.METHODS for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)])}
    assert options == peftoptions.CHANGING.keys() | peftoptions.WITHOUT_EFFECT
    assert not peftoptions.CHANGING.keys() & peftoptions.WITHOUT_EFFECT


@pytest.mark.parametrize("name", [kind.value for kind in PeftType if kind.value not in ELSEWHERE])
def test_a_file_of_each_method_is_read_whole_or_refused_by_name(clean, tmp_path, name):
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(name)](**{"target_modules": TARGETS, **NEEDED.get(name, {})})
    pipeline = copy.deepcopy(clean)
    made(pipeline, config, tmp_path)
    if name in peftoptions.METHODS:
        file, expected = read(tmp_path, NANO), outputs(pipeline)
        assert file.unknown == ()
        assert all(close(found, wanted) for found, wanted in zip(attached(clean, file), expected, strict=True))
        return
    with pytest.raises(UnknownFormat, match=f"PEFT's {name} is not read"):
        read(tmp_path, NANO)
    assert fit(tmp_path, NANO).verdict == "not"
    assert name in fit(tmp_path, NANO).reason
    (tmp_path / CONFIG).unlink()
    with pytest.raises(LoraError):
        read(tmp_path, NANO)


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_wraps_no_unet_is_refused_by_its_config(tmp_path, name):
    with pytest.raises(UnknownFormat, match=f"PEFT's {name} is not read"):
        read(with_config(tmp_path, {"peft_type": name}), NANO)


def with_config(folder, options):
    """A plain LoRA in PEFT's folder whose config says something else."""
    path = write(network(NANO, lambda layer: layer.attention and not layer.place.is_text), folder / "x", "peft-folder")
    config = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps(config | options))
    return path


@pytest.mark.parametrize("name", sorted(peftoptions.CHANGING))
def test_an_option_that_changes_the_arithmetic_is_refused_by_name(tmp_path, name):
    with pytest.raises(UnknownFormat, match=f"PEFT's {name} = "):
        read(with_config(tmp_path, {name: "all"}), NANO)


@pytest.mark.parametrize("options", [{"bias": "all"}, {"modules_to_save": ["conv_in"]}], ids=str)
def test_what_peft_writes_beside_the_factors_is_refused_by_name(clean, tmp_path, options):
    config = peft.LoraConfig(r=4, target_modules=["to_out.0"], **options)
    made(copy.deepcopy(clean), config, tmp_path)
    with pytest.raises(UnknownFormat, match=f"PEFT's {next(iter(options))} = .* in place of the base's"):
        read(tmp_path, NANO)


def test_an_option_of_tomorrow_is_told(tmp_path):
    path = with_config(tmp_path, {"use_something_new": 3, "lora_dropout": 0.1})
    for warnings in (read(path, NANO).warnings, inspect(path).warnings, fit(path, NANO).warnings):
        assert [text for text in warnings if "use_something_new = 3, which is not known here" in text]
        assert not any("lora_dropout" in text for text in warnings)


USUAL = [True, False, "gaussian", "eva", "orthogonal", "mica"]


@pytest.mark.parametrize("beginning", USUAL)
def test_beginnings_that_leave_the_base_alone_are_read_as_lora(clean, tmp_path, beginning):
    expected = saved(
        copy.deepcopy(clean), peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, init_lora_weights=beginning), tmp_path
    )
    assert all(close(found, wanted) for found, wanted in zip(attached(clean, read(tmp_path, NANO)), expected, strict=True))


OPTIONS = {
    "plain": {},
    "alpha": {"lora_alpha": 7},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"to_k": 2}, "alpha_pattern": {"to_k": 5}},
    "dora": {"use_dora": True},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("beginning", "kind"), [("pissa", PiSSA), ("olora", OLoRA), ("OLoRA", OLoRA)])
@pytest.mark.parametrize("mode", ["merge", "branch"])
def test_what_began_inside_of_the_base_acts_on_the_base_that_peft_left(clean, tmp_path, beginning, kind, options, mode):
    """PEFT's output on the base that it changed itself; without this the base's own largest parts would be there twice."""
    config = peft.LoraConfig(r=4, target_modules=TARGETS, init_lora_weights=beginning, **OPTIONS[options])
    expected = saved(copy.deepcopy(clean), config, tmp_path)
    file = read(tmp_path, NANO)
    kinds = {DoRA.around(kind)} if options == "dora" else {kind}
    assert {type(adapter) for adapter in file.adapters.values()} == kinds
    found = attached(clean, file, mode)
    assert not close(outputs(clean)[-1], expected[-1], 1e-2)
    assert all(close(mine, wanted, 1e-4) for mine, wanted in zip(found, expected, strict=True))


def test_a_beginning_that_was_not_trained_changes_nothing(clean, tmp_path):
    peft.get_peft_model(copy.deepcopy(clean).unet, peft.LoraConfig(r=4, target_modules=TARGETS, init_lora_weights="pissa")).save_pretrained(
        tmp_path
    )
    for target, adapter in read(tmp_path, NANO).adapters.items():
        weight = clean.unet.get_submodule(target.module).weight
        assert float(adapter.delta(weight).detach().norm() / weight.norm()) < 1e-5  # of float32's SVD, eps · √rank · σ₁/‖W‖


@pytest.mark.parametrize("beginning", ["pissa_niter_16", "corda", "loftq", "lora_ga", "something_new"])
def test_a_beginning_that_the_base_does_not_tell_is_refused_by_name(tmp_path, beginning):
    path = with_config(tmp_path, {"init_lora_weights": beginning})
    with pytest.raises(UnknownFormat, match=rf"init_lora_weights = '{beginning}' .*path_initial_model_for_weight_conversion"):
        read(path, NANO)
    assert beginning in fit(path, NANO).reason


def test_what_pefts_own_conversion_makes_of_it_is_read_as_plain_lora(clean, tmp_path):
    """The way that the refusal names."""
    pipeline = copy.deepcopy(clean)
    unet = peft.get_peft_model(pipeline.unet, peft.LoraConfig(r=4, target_modules=TARGETS, init_lora_weights="pissa_niter_4"))
    unet.peft_config["default"].init_lora_weights = True
    unet.save_pretrained(tmp_path / "beginning")
    unet.peft_config["default"].init_lora_weights = "pissa_niter_4"
    randomise(unet)
    unet.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "beginning"))
    expected = outputs(pipeline)
    file = read(tmp_path / "plain", NANO)
    assert {adapter.name for adapter in file.adapters.values()} == {"lora"}
    assert all(close(mine, wanted, 1e-4) for mine, wanted in zip(attached(clean, file), expected, strict=True))


def test_diffusers_metadata_counts_as_the_config_does(tmp_path):
    """By component: `unet.init_lora_weights`."""
    path = write(network(NANO, everything, rank=2), tmp_path / "x.safetensors", "peft", dtype=torch.float32)
    header = Header.read(path)
    config = json.loads(header.metadata[PEFT_CONFIG])
    changed = tmp_path / "y.safetensors"
    told = {
        **header.metadata,
        PEFT_CONFIG: json.dumps(config | {"unet.init_lora_weights": "pissa", "text_encoder.init_lora_weights": "corda"}),
    }
    rewrite(header, changed, told, frozenset(header.entries))
    file = read(changed, NANO)
    linear = Target("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
    assert isinstance(file.adapters[linear], PiSSA)
    assert {target.component for target in file.adapters} == {"unet"}
    assert any("corda" in line for line in file.unknown)


def test_no_naming_can_hold_what_began_inside_of_the_base(clean, tmp_path):
    made(copy.deepcopy(clean), peft.LoraConfig(r=2, target_modules=TARGETS, init_lora_weights="pissa"), tmp_path / "in")
    with pytest.raises(DialectCannotHold, match="`loraloom extract` reads them from the base"):
        write(read(tmp_path / "in" / WEIGHTS, NANO), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("convolution", [False, True])
def test_adalora_is_the_lora_that_peft_computes(clean, tmp_path, convolution):
    """Its scale divides by the rank of the beginning, whatever is left of it; convolutions have flat factors."""
    targets = ["conv1", "to_q"] if convolution else ["to_q", "to_v"]
    config = peft.AdaLoraConfig(init_r=6, target_r=3, lora_alpha=5, total_step=100, target_modules=targets)
    expected = saved(copy.deepcopy(clean), config, tmp_path)
    file = read(tmp_path, NANO)
    assert file.unknown == ()
    for mode in ("merge", "branch"):
        assert all(close(mine, wanted) for mine, wanted in zip(attached(clean, file, mode), expected, strict=True))


def test_adalora_of_fewer_ranks_keeps_its_scale(clean, tmp_path):
    pipeline = copy.deepcopy(clean)
    unet = peft.get_peft_model(pipeline.unet, peft.AdaLoraConfig(init_r=6, target_r=3, total_step=100, target_modules=["to_q"]))
    randomise(unet)
    kept = {
        f"{name}.lora_E.default": [True, False, True, True, False, False]
        for name, part in unet.model.named_modules()
        if name.endswith("to_q")
    }
    unet.base_model.peft_config["default"].rank_pattern = kept
    unet.base_model.resize_modules_by_rank_pattern(kept, "default")
    unet.save_pretrained(tmp_path)
    expected = outputs(pipeline)
    assert all(close(mine, wanted) for mine, wanted in zip(attached(clean, read(tmp_path, NANO)), expected, strict=True))
