"""Laws that every adapter type keeps (house.md §6). A new type is one more entry in CASES."""

import pytest
import torch
from cases import CASES, INPUTS, LAYERS, case, kind_of, takes
from support import close
from torch import nn

from loraloom.adapters import TYPES, Norm, NotExact, read_adapter

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


@pytest.mark.parametrize(("kind", "options", "layer"), FRESH, ids=lambda value: getattr(value, "name", str(value)))
def test_what_begins_at_zero_beside_other_tensors_is_named(kind, options, layer):
    fresh = kind.init(LAYERS[layer]().weight, rank=3, alpha=2, generator=torch.Generator().manual_seed(1), **options)
    inner = {name: tensor for name, tensor in getattr(fresh, "inner", fresh).trainable().items() if name not in kind.undecayed}
    zero = {name for name, tensor in inner.items() if not tensor.any()}
    assert zero & kind.late == (zero if len(zero) < len(inner) else set())


TRAINED = [(name, layer) for name, layer in PAIRS if layer in ("linear", "3x3", "layer norm") and not name.endswith(("fp16", "bf16"))]


@pytest.mark.parametrize(("name", "layer"), TRAINED)
def test_a_shrunk_adapter_has_a_part_of_the_delta(name, layer):
    """Of what is wrapped, where something is."""
    adapter, module, _ = case(name, layer)
    if not adapter.degree:
        assert any(word in name for word in ("oft", "sparse", "norm", "glora tucker")), "every product has a degree"
        return
    inner, shrunk = (getattr(each, "inner", each) for each in (adapter, adapter.shrunk(0.3)))
    weight = module.weight.detach()
    assert close(shrunk.delta(weight), 0.3 * inner.delta(weight))
    assert type(adapter.shrunk(0.3)) is type(adapter)


@pytest.mark.parametrize(("name", "layer"), TRAINED)
def test_ranks_that_are_weighed_are_those_that_a_cut_takes(name, layer):
    adapter, module, _ = case(name, layer)
    scaling = adapter.scaling()
    weighed = adapter.weighed(torch.ones(scaling[0])) if scaling else None
    if weighed is None:
        assert scaling is None
        return
    assert torch.equal(weighed.delta(module.weight), adapter.delta(module.weight))
    inner = getattr(adapter, "inner", adapter)
    first = inner.weighed(torch.tensor([1.0] + [0.0] * (scaling[0] - 1)))
    if inner.name in ("lora", "glora") and "tucker" not in name:  # a second side, a second part and a core keep their ranks
        assert close(first.delta(module.weight), inner.cut(1).delta(module.weight))
    assert not inner.weighed(torch.zeros(scaling[0])).delta(module.weight).any()


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
