"""What a mix and a file put out for the same input, against the deltas in float64; and their picture."""

import math

import pytest
import torch
from cases import CASES
from networks import WEIGHTS, of_type
from PIL import Image
from support import network

from loraloom.adapters import Full
from loraloom.basefile import BaseFile
from loraloom.bases import NANO, SDXL, TINY
from loraloom.combine import Goal, combine, of_difference, of_stack, probed
from loraloom.combine.plot import _block, draw_modules
from loraloom.combine.probe import PROBES
from loraloom.errors import NotSupported, WriteFailed
from loraloom.lorafile import LoraFile
from loraloom.strength import Strength

of = Strength.of


def output(layer, delta, bias):
    """[out, PROBES] or, of an embedding, [width, PROBES], float64."""
    width = layer.shape[0] if layer.kind in ("embedding", "norm") else math.prod(layer.shape[1:])
    x = torch.randn(width, PROBES, generator=torch.Generator().manual_seed(0)).double()
    found = delta[:, None] * x if layer.kind == "norm" else (delta.mT if layer.kind == "embedding" else delta.flatten(1)) @ x
    return found if bias is None else found + bias.double()[:, None]


def of_itself(adapter, weight):
    """A result never reads the base's weights."""
    return Full(diff=adapter.delta(weight), bias=adapter.bias) if adapter.reads_weight else adapter


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_difference_of_the_outputs(name):
    """1e-5: float32 beside float64."""
    mix = of_type(name)
    made = LoraFile({target: of_itself(adapter, WEIGHTS[target]) for target, adapter in of_type(name, seed=1).adapters.items()})
    found = probed(made, of_stack([(mix, of(0.7))], WEIGHTS.get), NANO)
    assert found.keys() == made.adapters.keys()
    for target, adapter in made.adapters.items():
        layer, weight = NANO.by_target[target], WEIGHTS[target]
        zeros = torch.zeros(layer.shape[0])
        sides = [output(layer, each.delta(weight).double(), each.bias_delta(zeros)) for each in (mix.adapters[target], adapter)]
        expected = float((sides[1] - 0.7 * sides[0]).norm() / (0.7 * sides[0]).norm())
        assert found[target] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_the_exact_file_puts_out_what_the_mix_does():
    stack = [(network(NANO, seed=1), of(0.8)), (of_type("loha"), of(-0.3)), (of_type("oft with rescale and bias"), of(0.5))]
    found = probed(combine(stack, NANO, Goal(), weights=WEIGHTS.get).file, of_stack(stack, WEIGHTS.get), NANO)
    assert max(found.values()) <= 2e-6


def test_it_is_near_the_error_of_the_weights():
    """Gaussian columns weigh every direction alike: the root of the mean square over modules is that of the weights."""
    stack = [(network(NANO, seed=1, rank=8), of(0.8)), (network(NANO, seed=2, rank=8), of(0.5))]
    made = combine(stack, NANO, Goal(rank=8))
    found = probed(made.file, of_stack(stack), NANO)
    weights, outputs = (torch.tensor(values) for values in ([module.error for module in made.modules], list(found.values())))
    assert float(outputs.square().mean().sqrt()) == pytest.approx(float(weights.square().mean().sqrt()), rel=0.1)


def test_a_bias_that_was_lost_is_seen():
    stack = [(of_type("lora with bias"), of(1.0))]
    made = {target: adapter.with_tensors({"bias": None}) for target, adapter in stack[0][0].adapters.items()}
    assert min(probed(LoraFile(made), of_stack(stack), NANO).values()) > 0.1


def test_what_adds_nothing_is_no_error():
    target = NANO.layers[0].target
    made = LoraFile({target: Full(diff=torch.zeros(NANO.layers[0].shape))})
    assert probed(made, of_stack([]), NANO) == {target: 0.0}


def test_of_two_checkpoints_it_is_what_lies_between_them():
    weights = {f"{target.component}/{target.module}.weight": weight for target, weight in WEIGHTS.items()}
    changed = {key: weight + torch.ones_like(weight) if "attn" in key else weight for key, weight in weights.items()}
    before, after = BaseFile("before", NANO, weights), BaseFile("after", NANO, changed)
    whole = LoraFile({target: Full(diff=torch.ones(weight.shape)) for target, weight in WEIGHTS.items() if "attn" in target.module})
    assert max(probed(whole, of_difference(before, after), NANO).values()) <= 1e-5
    half = LoraFile({target: Full(diff=adapter.diff / 2) for target, adapter in whole.adapters.items()})
    assert all(error == pytest.approx(0.5, abs=1e-5) for error in probed(half, of_difference(before, after), NANO).values())


def test_types_that_read_the_base_say_so():
    with pytest.raises(NotSupported, match="give the base"):
        probed(of_type("oft"), of_stack([(of_type("oft"), of(1.0))]), NANO)


def test_a_plot_has_every_module_and_is_a_whole_file_or_none(tmp_path):
    modules = [str(layer.target) for layer in TINY.layers if layer.attention]
    errors = {"weights": [0.1] * len(modules), "output": [0.0] * len(modules)}
    draw_modules(tmp_path / "new" / "x.png", modules, errors, [(32, 8)] * len(modules), "mixed")
    assert Image.open(tmp_path / "new" / "x.png").size == (1210, 660)
    (tmp_path / "file").touch()
    with pytest.raises(WriteFailed, match="is there and is no folder"):
        draw_modules(tmp_path / "file" / "x.png", modules, errors, [(32, 8)] * len(modules), "mixed")


def test_blocks_of_the_plot_are_the_large_ones():
    found = list(dict.fromkeys(_block(str(layer.target)) for layer in SDXL.layers))
    assert sorted(found) == sorted(
        ["text_encoder", "text_encoder_2", "unet", "unet mid", *(f"unet {side} {n}" for side in ("down", "up") for n in range(3))]
    )
