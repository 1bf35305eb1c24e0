"""Laws that every adapter type keeps (house.md §6). A new type is one more entry in CASES."""

import pytest
import torch
from lycoris_kinds import random_glora, random_loha, random_lokr
from support import close, random_boft, random_ia3, random_lora, random_oft, random_oft_diag, random_onetrainer_oft
from torch import nn

from loraloom.adapters import TYPES, Adapter, DoRA, Full, Norm, NotExact, Sparse, read_adapter

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
    "layer norm": lambda: nn.LayerNorm(8),
    "layer norm without bias": lambda: nn.LayerNorm(8, bias=False),
    "group norm": lambda: nn.GroupNorm(4, 8),
    "rms norm": lambda: nn.RMSNorm(8),
    "embedding": lambda: nn.Embedding(8, 12),
}
KINDS = {nn.Linear: "linear", nn.Conv2d: "conv", nn.LayerNorm: "norm", nn.GroupNorm: "norm", nn.RMSNorm: "norm", nn.Embedding: "embedding"}
INPUTS = {
    nn.Linear: lambda: torch.randn(2, 5, 12),
    nn.Conv2d: lambda: torch.randn(2, 12, 9, 10),
    nn.LayerNorm: lambda: torch.randn(2, 5, 8),
    nn.GroupNorm: lambda: torch.randn(2, 8, 5, 6),
    nn.RMSNorm: lambda: torch.randn(2, 5, 8),
    nn.Embedding: lambda: torch.randint(0, 8, (2, 5)),
}
CASES = {
    "lora": lambda shape: random_lora(*shape),
    "lora without alpha": lambda shape: random_lora(*shape, alpha=None),
    "lora with bias": lambda shape: random_lora(*shape, bias=True),
    "tucker": lambda shape: random_lora(*shape, tucker=True),
    "loha": lambda shape: random_loha(*shape),
    "loha with bias": lambda shape: random_loha(*shape, bias=True),
    "loha tucker": lambda shape: random_loha(*shape, tucker=True),
    "loha of rank 1": lambda shape: random_loha(*shape, rank=1),
    "lokr": lambda shape: random_lokr(*shape),
    "lokr with bias": lambda shape: random_lokr(*shape, bias=True),
    "lokr, w1 factored": lambda shape: random_lokr(*shape, parts=(4, 4), first=True),
    "lokr, w2 factored": lambda shape: random_lokr(*shape, second=True, rank=1),
    "lokr, both factored": lambda shape: random_lokr(*shape, first=True, second=True, rank=1),
    "lokr tucker": lambda shape: random_lokr(*shape, parts=(2, 2), tucker=True),
    "lokr tucker, w1 factored": lambda shape: random_lokr(*shape, first=True, tucker=True, rank=1),
    "lokr of one column": lambda shape: random_lokr(*shape, parts=(1, 1), second=True),
    "glora": lambda shape: random_glora(*shape),
    "glora with bias": lambda shape: random_glora(*shape, bias=True),
    "glora tucker": lambda shape: random_glora(*shape, tucker=True),
    "full": lambda shape: Full(diff=torch.randn(shape)),
    "full with bias": lambda shape: Full(diff=torch.randn(shape), bias=torch.randn(shape[0])),
    "bias alone": lambda shape: Full(bias=torch.randn(shape[0])),
    "norm": lambda shape: Norm(weight=torch.randn(shape), shift=torch.randn(shape)),
    "norm weight": lambda shape: Norm(weight=torch.randn(shape)),
    "norm bias": lambda shape: Norm(shift=torch.randn(shape)),
    "dora": lambda shape: DoRA.of(random_lora(*shape), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "dora of columns": lambda shape: DoRA.of(random_lora(*shape), magnitude=1 + torch.rand(1, shape[1], *[1] * (len(shape) - 2))),
    "dora with bias": lambda shape: DoRA.of(random_lora(*shape, bias=True), magnitude=1 + torch.rand(shape[0])),
    "dora of tucker": lambda shape: DoRA.of(random_lora(*shape, tucker=True), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "dora of full": lambda shape: DoRA.of(Full(diff=torch.randn(shape)), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "dora of loha": lambda shape: DoRA.of(random_loha(*shape, bias=True), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "dora of lokr": lambda shape: DoRA.of(random_lokr(*shape), magnitude=1 + torch.rand(1, shape[1], *[1] * (len(shape) - 2))),
    "dora of glora": lambda shape: DoRA.of(random_glora(*shape), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "sparse of loha": lambda shape: sparse(random_loha(*shape), shape),
    "sparse of lokr": lambda shape: sparse(random_lokr(*shape), shape),
    "sparse of glora": lambda shape: sparse(random_glora(*shape), shape),
    "sparse": lambda shape: sparse(random_lora(*shape, bias=True), shape),
    "sparse of full": lambda shape: sparse(Full(diff=torch.randn(shape)), shape),
    "loha fp16": lambda shape: random_loha(*shape, dtype=torch.float16),
    "lokr fp16": lambda shape: random_lokr(*shape, dtype=torch.float16),
    "glora fp16": lambda shape: random_glora(*shape, dtype=torch.float16),
    "oft": lambda shape: random_oft(*shape),
    "oft constrained": lambda shape: random_oft(*shape, alpha=0.05),
    "oft with rescale and bias": lambda shape: random_oft(*shape, alpha=None, rescale=True, bias=True),
    "oft diag": lambda shape: random_oft_diag(*shape),
    "oft diag with rescale and bias": lambda shape: random_oft_diag(*shape, rescale=True, bias=True),
    "boft": lambda shape: random_boft(*shape),
    "boft of one stage": lambda shape: random_boft(*shape, stages=1),
    "boft with rescale and bias": lambda shape: random_boft(*shape, rescale=True, bias=True),
    "onetrainer oft": lambda shape: random_onetrainer_oft(*shape),
    "onetrainer oft shared": lambda shape: random_onetrainer_oft(*shape, shared=True, scaled=False),
    "onetrainer oft with bias": lambda shape: random_onetrainer_oft(*shape, bias=True),
    "ia3": lambda shape: random_ia3(*shape),
    "ia3 on input": lambda shape: random_ia3(*shape, on_input=True),
    "ia3 with bias": lambda shape: random_ia3(*shape, bias=True),
    "ia3 on input with bias": lambda shape: random_ia3(*shape, on_input=True, bias=True),
    "fp16": lambda shape: random_lora(*shape, dtype=torch.float16),
    "bf16": lambda shape: random_lora(*shape, dtype=torch.bfloat16),
}


TURNING = ("oft", "oft diag", "boft", "onetrainer oft", "onetrainer oft with bias", "ia3", "ia3 on input")
CASES |= {
    f"dora of {name}": lambda shape, make=CASES[name]: DoRA.of(make(shape), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1)))
    for name in TURNING
}
CASES |= {f"sparse of {name}": lambda shape, make=CASES[name]: sparse(make(shape), shape) for name in TURNING}


def sparse(inner: Adapter, shape: tuple[int, ...]) -> Sparse:
    """Three values at three places of a weight of `shape`, one of them twice."""
    indices = torch.tensor([[length - 1, 0, 0] for length in shape])
    return Sparse.of(inner, indices=indices, values=torch.tensor([3.0, -2.0, 5.0]), size=torch.tensor(shape))


def case(name: str, layer: str) -> tuple[Adapter, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module = LAYERS[layer]()
    return CASES[name](tuple(module.weight.shape)), module, INPUTS[type(module)]()


def kind_of(layer: str) -> str:
    return KINDS[type(LAYERS[layer]())]


def takes(name: str) -> frozenset[str]:
    """The kinds of layers that a case can be made for. Norms have one dimension, so their adapters cannot be made for others."""
    return frozenset({"norm"}) if name.startswith("norm") else type(CASES[name]((4, 4))).kinds


PAIRS = [
    (name, layer)
    for name in CASES
    for layer in LAYERS
    if kind_of(layer) in takes(name) and not ("bias" in name and layer == "embedding")  # which has none
]
BY_TYPE = [(kind, layer) for kind in TYPES for layer in LAYERS if kind_of(layer) in kind.kinds]


def test_every_type_has_a_case():
    assert {type(make((4,) if name.startswith("norm") else (4, 4))) for name, make in CASES.items()} == set(TYPES)


def test_every_type_and_case_meets_layers():
    assert {name for name, _ in PAIRS} == set(CASES)
    assert {kind for kind, _ in BY_TYPE} == set(TYPES)


@pytest.mark.parametrize("name", CASES)
def test_exactly_one_type_accepts(name):
    adapter = CASES[name]((4,) if name.startswith("norm") else (4, 4))
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
    assert [kind for kind in TYPES if kind.accepts(shapes)] == [type(adapter)]


@pytest.mark.parametrize(("name", "layer"), PAIRS)
def test_branch_equals_the_output_of_the_changed_weight(name, layer):
    """The merge law at its root: layer with W + s·delta = layer + s·branch, in float32 within 1e-5."""
    adapter, module, x = case(name, layer)
    with torch.no_grad():
        y = module(x)
        beside = y + 0.7 * adapter.branch(module, x, y)
        assert close(y + 0.7 * adapter.bound(module.weight).branch(module, x, y), beside)
        bias = adapter.bias_delta(torch.zeros(8))
        module.weight += 0.7 * adapter.delta(module.weight)
        if bias is not None and not hasattr(module, "bias"):  # RMSNorm has no place for one
            assert close(beside, module(x) + 0.7 * bias)
            return
        if bias is not None:
            module.bias = nn.Parameter((0 if module.bias is None else module.bias) + 0.7 * bias)
        assert close(beside, module(x))


@pytest.mark.parametrize(("name", "layer"), PAIRS)
def test_factors_reproduce_delta(name, layer):
    adapter, module, _ = case(name, layer)
    delta, pair = adapter.delta(module.weight), adapter.factors(tuple(module.weight.shape))
    assert delta.dtype == torch.float32
    assert delta.shape == module.weight.shape
    if pair is not None:
        down, up = pair
        assert down.dtype == up.dtype == torch.float32
        assert close((up @ down).reshape(delta.shape), delta, 1e-6)


@pytest.mark.parametrize(("name", "layer"), PAIRS)
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


@pytest.mark.parametrize(("name", "layer"), PAIRS)
def test_tensors_read_back_as_the_same_adapter(name, layer):
    adapter, module, _ = case(name, layer)
    again = read_adapter(adapter.tensors())
    assert type(again) is type(adapter)
    assert again.tensors().keys() == adapter.tensors().keys()
    assert all(torch.equal(tensor, again.tensors()[suffix]) for suffix, tensor in adapter.tensors().items())
    assert torch.equal(again.delta(module.weight), adapter.delta(module.weight))


OPTIONS = {  # of `init`, by type
    "lora": [{}, {"tucker": True}],
    "loha": [{}, {"tucker": True}],
    "lokr": [{}, {"factor": 1}, {"factor": 1, "tucker": True}, {"factor": 1, "full_matrix": True}],
    "lora+dora": [{}, {"tucker": True}, {"on_input": True}],
    "loha+dora": [{"tucker": True}],
    "lokr+dora": [{"factor": 1}],
    "oft": [{}, {"constraint": 0.01}, {"rescaled": True}, {"block_size": 8}],
    "boft": [{}, {"constraint": 0.01}, {"rescaled": True}, {"block_size": 4, "boft_m": 1}],
    "oft-onetrainer": [{}, {"block_share": True}, {"block_size": 4, "scaled": False}],
    "ia3": [{}, {"train_on_input": True}],
}
FRESH = [(kind, options, layer) for kind, layer in BY_TYPE for options in OPTIONS.get(kind.name, [{}])]


@pytest.mark.parametrize(("kind", "options", "layer"), FRESH, ids=lambda value: getattr(value, "name", str(value)))
def test_a_fresh_adapter_changes_nothing_and_learns(kind, options, layer):
    torch.manual_seed(0)
    module = LAYERS[layer]()
    x = INPUTS[type(module)]()
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
    weight = torch.randn(8) if kind is Norm else torch.randn(8, 12)
    first, second = (kind.init(weight, rank=3, alpha=2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(tensor, second.tensors()[suffix]) for suffix, tensor in first.tensors().items())


@pytest.mark.parametrize("name", CASES)
def test_map_reaches_every_tensor_and_keeps_the_original(name):
    adapter, module, _ = case(name, "layer norm" if name.startswith("norm") else "3x3")
    before = adapter.delta(module.weight).clone()
    doubled = adapter.map(lambda tensor: tensor * 2)
    assert all(torch.equal(tensor * 2, doubled.tensors()[suffix]) for suffix, tensor in adapter.tensors().items())
    assert torch.equal(adapter.delta(module.weight), before)
    assert adapter.nbytes == sum(tensor.numel() * tensor.element_size() for tensor in adapter.tensors().values())
