"""DoRA against LyCORIS' forward on both axes and PEFT's; the axis of every shape that is met; what contradicts itself."""

import peft
import pytest
import torch
from judges import LAYERS, lycoris, made, through_peft
from lycoris.modules.locon import LoConModule
from support import close, random_lora
from torch import nn

from loraloom.adapters import DoRA, LoRA, NotExact, read_adapter
from loraloom.adapters.dora import axis
from loraloom.errors import BadTensor


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("on_out", [True, False], ids=["rows", "columns"])
def test_output_equals_lycoris(layer, on_out):
    module, x = made(layer)
    tensors, expected = lycoris(LoConModule, module, x, lora_dim=4, alpha=3, weight_decompose=True, wd_on_out=on_out)
    ours = read_adapter(tensors)
    assert isinstance(ours, DoRA)
    with torch.no_grad():
        y = module(x)
        assert close(y + ours.branch(module, x, y), expected)
        assert close(y + ours.bound(module.weight).branch(module, x, y), expected)
        module.weight += ours.delta(module.weight)
        assert close(module(x), expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_output_equals_peft(layer):
    module, x = made(layer)
    config = peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=["0"])
    tensors, expected, _ = through_peft(config, module, x)
    magnitude = tensors["lora_magnitude_vector.weight" if "lora_magnitude_vector.weight" in tensors else "lora_magnitude_vector"]
    inner = LoRA(down=tensors["lora_A.weight"], up=tensors["lora_B.weight"], alpha=torch.tensor(6.0))
    ours = DoRA.of(inner, magnitude=magnitude.reshape(8, *[1] * (module.weight.ndim - 1)))
    with torch.no_grad():
        y = module(x)
        assert close(y + ours.branch(module, x, y), expected)
        module.weight += ours.delta(module.weight)
        assert close(module(x), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
def test_half_precision_is_a_rounding_of_float32(layer, dtype):
    """8 or 11 bits of every value: within 2 % or 0.5 % of the largest output."""
    module, x = made(layer)
    tensors, _ = lycoris(LoConModule, module, x, lora_dim=4, alpha=3, weight_decompose=True)
    ours = read_adapter({suffix: tensor if suffix == "alpha" else tensor.to(dtype) for suffix, tensor in tensors.items()})
    module, x = module.to(dtype), x.to(dtype)
    with torch.no_grad():
        y = module(x)
        beside = y + ours.branch(module, x, y)
        exact = module.weight.float() + ours.delta(module.weight)
        wide = module.float()
        wide.weight.copy_(exact)
        assert beside.dtype == dtype
        assert close(beside.float(), wide(x.float()), 0.02 if dtype == torch.bfloat16 else 0.005)


@pytest.mark.parametrize(
    ("magnitude", "target", "expected"),
    [
        ((8, 1), (8, 12), "output"),
        ((1, 12), (8, 12), "input"),
        ((8, 1, 1, 1), (8, 12, 3, 3), "output"),
        ((1, 12, 1, 1), (8, 12, 3, 3), "input"),
        ((8, 1), (8, 8), "output"),
        ((1, 8), (8, 8), "input"),
        ((8,), (8, 12), "output"),
        ((12,), (8, 12), "input"),
        ((8,), (8, 8), "output"),
        ((1, 8), (8, 12), None),
        ((12, 1), (8, 12), None),
        ((1,), (8, 12), None),
        ((1, 1), (8, 12), None),
        ((8, 1), (8, 12, 1, 1), "output"),
        ((1, 12, 1, 1), (8, 12), "input"),
    ],
)
def test_the_axis_follows_from_the_shape_and_is_never_broadcast(magnitude, target, expected):
    assert axis(magnitude, target) == expected


@pytest.mark.parametrize("shape", [(), (8, 12), (2, 4), (1, 1, 8, 1), (8, 1, 3, 3)])
def test_a_magnitude_that_is_no_vector_is_refused(shape):
    with pytest.raises(BadTensor, match="not one number for each output or each input"):
        read_adapter({**random_lora(8, 12).tensors(), "dora_scale": torch.ones(shape)})


def test_a_magnitude_of_another_length_does_not_fit():
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in random_lora(8, 12).tensors().items()} | {"dora_scale": (9, 1)}
    assert "neither the 8 outputs nor the 12 inputs" in DoRA.around(LoRA).misfit(shapes, (8, 12))
    with pytest.raises(BadTensor, match="does not fit"):
        DoRA.of(random_lora(8, 12), magnitude=torch.ones(9, 1)).delta(torch.ones(8, 12))


def test_norms_are_of_the_changed_weight_and_the_strength_does_not_enter():
    """V/‖V‖, not V/‖W‖ as some tools have it."""
    weight, lora = torch.randn(8, 12), random_lora(8, 12)
    magnitude = 1 + torch.rand(8, 1)
    changed = weight + lora.delta(weight)
    expected = magnitude * changed / changed.norm(dim=1, keepdim=True) - weight
    assert close(DoRA.of(lora, magnitude=magnitude).delta(weight), expected, 1e-6)


def test_a_weight_of_zeros_stays_finite():
    weight = torch.zeros(8, 12)
    lora = random_lora(8, 12)
    delta = DoRA.of(lora.map(torch.zeros_like), magnitude=torch.ones(8, 1)).delta(weight)
    assert torch.isfinite(delta).all()


def test_columns_are_not_cut_into_rows():
    with pytest.raises(NotExact, match="norms over all rows"):
        DoRA.of(random_lora(8, 12), magnitude=torch.ones(1, 12)).rows(0, 4)


def test_a_cut_keeps_the_magnitude():
    dora = DoRA.of(random_lora(8, 12), magnitude=torch.ones(8, 1))
    cut = dora.cut(2)
    assert (cut.inner.rank, cut.magnitude is dora.magnitude) == (2, True)


def test_no_gradient_goes_through_the_norm():
    """The paper's §4.3: for the gradient, ‖V‖ is a constant."""
    module = nn.Linear(12, 8)
    lora = random_lora(8, 12)
    up = nn.Parameter(lora.up.clone())
    dora = DoRA.of(lora.with_tensors({"up": up}), magnitude=torch.ones(8, 1))
    x = torch.randn(3, 12)
    y = module(x).detach()
    (gradient,) = torch.autograd.grad(dora.branch(module, x, y).sum(), up)
    with torch.no_grad():
        gain = 1 / (module.weight + lora.delta(module.weight)).norm(dim=1)
        inner = (x @ lora.down.T).sum(0) * lora.multiplier
    assert close(gradient, gain[:, None] * inner)
