"""Laws that every adapter type keeps (house.md §6). A new type is one more entry in CASES."""

import pytest
import torch
from support import close, random_lora
from torch import nn

from loraloom.adapters import TYPES, Adapter, LoRA, NotExact, read_adapter

LAYERS = {
    "linear": lambda: nn.Linear(12, 8),
    "no bias": lambda: nn.Linear(12, 8, bias=False),
    "1x1": lambda: nn.Conv2d(12, 8, 1),
    "3x3": lambda: nn.Conv2d(12, 8, 3, padding=1),
    "3x3 stride": lambda: nn.Conv2d(12, 8, 3, stride=2, padding=1),
    "3x3 dilation": lambda: nn.Conv2d(12, 8, 3, padding=2, dilation=2),
    "3x5": lambda: nn.Conv2d(12, 8, (3, 5), padding=(0, 2), stride=(1, 2)),
    "same": lambda: nn.Conv2d(12, 8, 3, padding="same"),
    "circular": lambda: nn.Conv2d(12, 8, 3, padding=1, padding_mode="circular"),  # seamless tiles
}
CASES = {
    "lora": lambda shape: random_lora(*shape),
    "lora without alpha": lambda shape: random_lora(*shape, alpha=None),
    "lora with bias": lambda shape: random_lora(*shape, bias=True),
    "tucker": lambda shape: random_lora(*shape, tucker=True),
    "fp16": lambda shape: random_lora(*shape, dtype=torch.float16),
    "bf16": lambda shape: random_lora(*shape, dtype=torch.bfloat16),
}


def case(name: str, layer: str) -> tuple[Adapter, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module = LAYERS[layer]()
    x = torch.randn((2, 12, 9, 10) if isinstance(module, nn.Conv2d) else (2, 5, 12))
    return CASES[name](tuple(module.weight.shape)), module, x


def test_every_type_has_a_case():
    assert {type(make((4, 4))) for make in CASES.values()} == set(TYPES)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", CASES)
def test_branch_equals_the_output_of_the_changed_weight(name, layer):
    """The merge law at its root: layer with W + s·delta = layer + s·branch, in float32 within 1e-5."""
    adapter, module, x = case(name, layer)
    with torch.no_grad():
        y = module(x)
        beside = y + 0.7 * adapter.branch(module, x, y)
        bias = adapter.bias_delta(torch.zeros(8))
        module.weight += 0.7 * adapter.delta(module.weight)
        module.bias = nn.Parameter((module.bias if module.bias is not None else 0) + 0.7 * (torch.zeros(8) if bias is None else bias))
        assert close(beside, module(x))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", CASES)
def test_factors_reproduce_delta(name, layer):
    adapter, module, _ = case(name, layer)
    delta, pair = adapter.delta(module.weight), adapter.factors(tuple(module.weight.shape))
    assert delta.dtype == torch.float32
    assert delta.shape == module.weight.shape
    if pair is not None:
        down, up = pair
        assert down.dtype == up.dtype == torch.float32
        assert close((up @ down).reshape(delta.shape), delta, 1e-6)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", CASES)
def test_rows_laid_together_reproduce_delta(name, layer):
    adapter, module, _ = case(name, layer)
    try:
        parts = [(adapter.rows(start, stop), slice(start, stop)) for start, stop in ((0, 3), (3, 4), (4, 8))]
    except NotExact:
        return
    assert close(torch.cat([part.delta(module.weight[rows]) for part, rows in parts]), adapter.delta(module.weight), 1e-6)
    biases = [part.bias_delta(torch.zeros(rows.stop - rows.start)) for part, rows in parts]
    whole = adapter.bias_delta(torch.zeros(8))
    assert (whole is None and biases == [None] * 3) or torch.equal(torch.cat(biases), whole)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", CASES)
def test_tensors_read_back_as_the_same_adapter(name, layer):
    adapter, module, _ = case(name, layer)
    again = read_adapter(adapter.tensors())
    assert type(again) is type(adapter)
    assert again.tensors().keys() == adapter.tensors().keys()
    assert all(torch.equal(tensor, again.tensors()[suffix]) for suffix, tensor in adapter.tensors().items())
    assert torch.equal(again.delta(module.weight), adapter.delta(module.weight))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"tucker": True}], ids=["plain", "tucker"])
@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_a_fresh_adapter_changes_nothing_and_learns(kind, options, layer):
    if options and kind is not LoRA:
        pytest.skip("tucker is an option of LoRA")
    _, module, x = case("lora", layer)
    adapter = kind.init(module.weight, rank=3, alpha=2, generator=torch.Generator().manual_seed(1), **options)
    assert not adapter.delta(module.weight).any()
    learning = adapter.with_tensors({name: nn.Parameter(tensor) for name, tensor in adapter.trainable().items()})
    y = module(x).detach()
    for _ in range(2):  # the first step moves what multiplies zero, the second all
        tensors = learning.trainable()
        loss = (y + learning.branch(module, x, y)).square().mean()
        gradients = torch.autograd.grad(loss, list(tensors.values()))
        assert any(gradient.any() for gradient in gradients)
        moved = {name: nn.Parameter(tensor - 0.1 * gradient) for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True)}
        learning = learning.with_tensors(moved)
    assert all(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_the_same_generator_makes_the_same_adapter(kind):
    weight = torch.zeros(8, 12)
    first, second = (kind.init(weight, rank=3, alpha=2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(tensor, second.tensors()[suffix]) for suffix, tensor in first.tensors().items())


@pytest.mark.parametrize("name", CASES)
def test_map_reaches_every_tensor_and_keeps_the_original(name):
    adapter, module, _ = case(name, "3x3")
    before = adapter.delta(module.weight).clone()
    doubled = adapter.map(lambda tensor: tensor * 2)
    assert all(torch.equal(tensor * 2, doubled.tensors()[suffix]) for suffix, tensor in adapter.tensors().items())
    assert torch.equal(adapter.delta(module.weight), before)
    assert adapter.nbytes == sum(tensor.numel() * tensor.element_size() for tensor in adapter.tensors().values())
