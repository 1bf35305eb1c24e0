"""full and norm against LyCORIS' forward; what contradicts itself."""

import pytest
import torch
from judges import LAYERS, lycoris, made
from lycoris.modules.full import FullModule
from lycoris.modules.norms import NormModule
from support import close
from torch import nn

from loraloom.adapters import Full, Norm, read_adapter
from loraloom.adapters.like import like
from loraloom.errors import BadTensor, NotSupported, UnknownFormat

NORMS = {"layer": lambda: nn.LayerNorm(8), "group": lambda: nn.GroupNorm(2, 8)}


@pytest.mark.parametrize("layer", LAYERS)
def test_full_equals_lycoris(layer):
    module, x = made(layer)
    tensors, expected = lycoris(FullModule, module, x)
    ours = read_adapter(tensors)
    assert isinstance(ours, Full)
    with torch.no_grad():
        y = module(x)
        assert close(y + ours.branch(module, x, y), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_norm_equals_lycoris(norm):
    torch.manual_seed(0)
    module = NORMS[norm]()
    x = torch.randn(2, 8, 5, 5) if norm == "group" else torch.randn(2, 5, 8)
    tensors, expected = lycoris(NormModule, module, x)
    ours = read_adapter(tensors)
    assert isinstance(ours, Norm)
    with torch.no_grad():
        y = module(x)
        assert close(y + ours.branch(module, x, y), expected)
        module.bias += ours.bias_delta(module.bias)
        module.weight += ours.delta(module.weight)
        assert close(module(x), expected)


@pytest.mark.parametrize(
    "shapes",
    [{"w_norm": (8, 1)}, {"w_norm": ()}, {"w_norm": (8,), "b_norm": (9,)}, {"b_norm": (1, 8)}, {"diff": (8, 4), "diff_b": (8, 1)}],
    ids=str,
)
def test_shapes_that_contradict_one_another_are_refused(shapes):
    with pytest.raises(BadTensor):
        read_adapter({suffix: torch.zeros(shape) for suffix, shape in shapes.items()})


def test_nothing_is_no_adapter():
    with pytest.raises(UnknownFormat):
        read_adapter({})


@pytest.mark.parametrize(("diff", "target"), [((8, 12), (8, 12, 1, 1)), ((8, 12, 1, 1), (8, 12))])
def test_a_linear_change_fits_a_1x1_convolution_and_the_reverse(diff, target):
    assert Full.misfit({"diff": diff}, target) is None
    assert Full(diff=torch.ones(diff)).delta(torch.zeros(target)).shape == target


def test_a_layer_of_an_unknown_class_is_refused_by_name():
    with pytest.raises(NotSupported, match="Bilinear"):
        like(nn.Bilinear(2, 2, 2), torch.ones(1, 2), torch.ones(2, 2))
