"""Numbers that no training leaves, in every place for a number: the right delta, or a LoraError."""

from contextlib import suppress

import pytest
import torch
from cases import CASES, case, kind_of, takes
from safetensors.torch import save_file
from support import random_boft, random_lora, random_oft

from loraloom.adapters import Sparse
from loraloom.bases import NANO
from loraloom.dialects import read
from loraloom.errors import BadTensor, LoraError

NUMBERS = (0.0, -0.0, -1.0, 1e38, -1e38, 3.4e38, 1e-45, float("nan"), float("inf"), float("-inf"), 2**63 - 1, -(2**63))
Q = "unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize("name", CASES)
def test_nothing_but_a_lora_error_comes_of_any_number(name):
    """In the delta, beside the layer, and prepared for it."""
    adapter, layer, x = case(name, next(layer for layer in ("linear", "layer norm") if kind_of(layer) in takes(name)))
    kind, own, y = type(adapter), adapter.tensors(), layer(x).detach()
    for suffix in sorted(kind.numbers()):
        for number in NUMBERS:
            tensor = torch.tensor(number) if isinstance(number, float) else torch.tensor(number, dtype=torch.int64)
            with suppress(LoraError), torch.no_grad():
                made = kind.from_tensors(own | {suffix: tensor})
                assert made.delta(layer.weight).shape == layer.weight.shape
                assert made.branch(layer, x, y).shape == y.shape
                assert made.bound(layer.weight).branch(layer, x, y).shape == y.shape


@pytest.mark.parametrize("make", [random_oft, random_boft])
@pytest.mark.parametrize("alpha", [1e38, 3.4e38, float(2**63 - 1), -1.0, 0.0, -0.0])
def test_a_constraint_longer_than_any_rotation_is_none(make, alpha):
    """LyCORIS' rule: clamped to alpha · out where that is above 0."""
    torch.manual_seed(0)
    adapter, weight = make(8, 12), torch.randn(8, 12)
    free = adapter.with_tensors({"alpha": None}).delta(weight)
    assert torch.equal(adapter.with_tensors({"alpha": torch.tensor(alpha)}).delta(weight), free)


@pytest.mark.parametrize("make", [random_oft, random_boft])
def test_the_smallest_constraint_leaves_no_turn(make):
    torch.manual_seed(0)
    weight = torch.randn(8, 12)
    found = make(8, 12).with_tensors({"alpha": torch.tensor(1e-45)}).delta(weight)
    assert float(found.abs().max()) < 1e-42  # 2 · alpha · out · 12 terms of weights below 4


def test_sd_scripts_constraint_below_0_is_refused_by_name(tmp_path):
    tensors = {f"oft_{Q}.oft_blocks": torch.randn(2, 8, 8), f"oft_{Q}.alpha": torch.tensor(-1.0)}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(BadTensor, match=rf"oft_{Q}\.alpha: -1 limits"):
        read(tmp_path / "x.safetensors", NANO)


def test_float64_values_beyond_float32_are_refused_by_name(tmp_path):
    tensors = {f"lora_{Q}.{name}": tensor for name, tensor in random_lora(16, 16).tensors().items()}
    save_file(tensors | {f"lora_{Q}.alpha": torch.tensor(1e300, dtype=torch.float64)}, tmp_path / "x.safetensors")
    with pytest.raises(BadTensor, match=r"alpha holds values that float32 cannot hold"):
        read(tmp_path / "x.safetensors", NANO)


@pytest.mark.parametrize("size", [(8, -12, -1), (-8, -12), (8, 2**62), (8, 0), (12, 8)])
def test_a_residue_of_an_impossible_size_is_refused(size):
    residue = {"indices": torch.zeros(len(size), 0, dtype=torch.int64), "values": torch.zeros(0), "size": torch.tensor(size)}
    with pytest.raises(BadTensor, match="a residue for a weight of"):
        Sparse.of(random_lora(8, 12), **residue).delta(torch.zeros(8, 12))
