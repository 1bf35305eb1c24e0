"""A change as each type: exact where nothing may be lost, else with the error that is told, against the full matrix in float64."""

from typing import get_args

import pytest
import torch
from cases import CASES
from lycoris.modules.lokr import LokrModule
from support import network

from loraloom.adapters import Full, LoKr, LoRA
from loraloom.bases import NANO, Layer, Target
from loraloom.cli import options
from loraloom.combine import Goal, ResizeRequest, combine
from loraloom.combine.change import Change
from loraloom.combine.forms import TYPES, form
from loraloom.combine.forms.lokr import nearest
from loraloom.errors import NotSupported, SettingsError
from loraloom.strength import Strength

LINEAR = Layer(Target("unet", "linear"), "linear", (64, 48))
CONV = Layer(Target("unet", "conv"), "conv", (32, 24, 3, 3))


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def change_of(layer, adapter):
    return Change.of(layer, [(adapter, 1.0)], None)


def true_error(module, change):
    expected = change.matrix.double()
    found = module.adapter.delta(torch.zeros(change.layer.shape)).double().flatten(1)
    return float((found - expected).norm() / expected.norm())


def nearly_kronecker(layer, a, c, noise, seed=0):
    out, columns, *kernel = layer.shape
    product = LoKr(w1=random(a, c, seed=seed), w2=random(out // a, columns // c, *kernel, seed=seed + 1), alpha=torch.tensor(1.0))
    exact = product.delta(torch.zeros(layer.shape))
    return Full(diff=exact + noise * exact.norm() / exact.numel() ** 0.5 * random(*layer.shape, seed=seed + 2))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("case", ["lora", "lora with bias", "loha", "lokr, w2 factored", "full", "tucker"])
@pytest.mark.parametrize("layer", [LINEAR, CONV], ids=["linear", "conv"])
def test_exact_is_the_same_change_or_refused(kind, case, layer):
    """1e-6 relative, float32."""
    torch.manual_seed(0)
    change = change_of(layer, CASES[case](layer.shape))
    if kind == "lora" and change.rest is not None:
        with pytest.raises(NotSupported, match=r"full cannot be written as lora without loss: .*a rank, an error or an energy"):
            form(kind)(change, Goal())
        return
    module = form(kind)(change, Goal())
    assert module.adapter.name == kind
    assert true_error(module, change) <= 1e-6
    assert (module.adapter.bias is None) == (change.bias is None)


@pytest.mark.parametrize("goal", [Goal(rank=3), Goal(error=0.5), Goal(error=0.1), Goal(energy=0.9), Goal(error=0.1, max_rank=2)], ids=str)
@pytest.mark.parametrize("kind", ["lora", "lokr"])
@pytest.mark.parametrize("layer", [LINEAR, CONV], ids=["linear", "conv"])
def test_the_error_that_is_told_is_the_one_that_is_there(kind, goal, layer):
    for adapter in (CASES["lora"](layer.shape), Full(diff=random(*layer.shape)), nearly_kronecker(layer, 4, 4, 0.05)):
        change = change_of(layer, adapter)
        module = form(kind)(change, goal)
        assert module.error == pytest.approx(true_error(module, change), abs=1e-6)
        if goal.most is not None and goal.max_rank is None:
            assert module.error <= goal.most
        if goal.most is None or goal.max_rank is not None:
            assert module.rank <= (goal.rank or goal.max_rank)


def test_a_whole_change_has_no_size_to_choose():
    with pytest.raises(SettingsError, match="whatever its rank: it does not go with rank 4"):
        form("full")(change_of(LINEAR, Full(diff=random(64, 48))), Goal(rank=4, type="full"))


@pytest.mark.parametrize("layer", [LINEAR, CONV], ids=["linear", "conv"])
@pytest.mark.parametrize(("a", "c"), [(2, 4), (8, 6), (1, 1), (32, 24)])
def test_a_kronecker_product_is_found_again(layer, a, c):
    change = change_of(layer, nearly_kronecker(layer, a, c, 0.0))
    first, second = nearest(change.matrix, a, c)
    assert float((torch.kron(first, second) - change.matrix).norm()) <= 1e-6 * change.norm


def test_no_other_product_is_nearer():
    """The first pair of singular vectors of the rearranged matrix, in float64; and every small step away is worse."""
    matrix = random(24, 20)
    first, second = nearest(matrix, 4, 5)
    error = float((torch.kron(first, second) - matrix).norm())
    blocks = matrix.double().reshape(4, 6, 5, 4).transpose(1, 2).reshape(20, 24)
    assert error == pytest.approx(float(torch.linalg.svdvals(blocks)[1:].norm()), rel=1e-6)
    for seed in range(20):
        moved = torch.kron(first + 0.01 * random(4, 5, seed=seed), second + 0.01 * random(6, 4, seed=seed))
        assert float((moved - matrix).norm()) > error


def test_the_fewest_numbers_that_keep_the_error():
    """A product with a little noise is far smaller as a product than as a LoRA; a LoRA is smaller as what it is."""
    product = form("lokr")(change_of(LINEAR, nearly_kronecker(LINEAR, 4, 4, 0.02)), Goal(error=0.1))
    assert tuple(product.adapter.w1.shape) == (4, 4)
    single = form("lokr")(change_of(LINEAR, CASES["lora"](LINEAR.shape)), Goal(error=0.01))
    assert (tuple(single.adapter.w1.shape), single.rank) == ((1, 1), 4)


def test_a_factor_that_cannot_keep_the_error_says_by_how_much():
    with pytest.raises(NotSupported, match=r"unet.linear: the nearest lokr of factor 8 leaves out 0\.9\d+ of the change, the limit is 0.1"):
        form("lokr")(change_of(LINEAR, Full(diff=random(64, 48))), Goal(error=0.1, type="lokr", factor=8))


def test_requests_and_commands_know_the_same_types():
    (command, *_), (request, *_) = get_args(options.Type), get_args(ResizeRequest.model_fields["type"].annotation)
    assert set(get_args(get_args(command)[0])) == set(get_args(request)) == TYPES.keys()


def test_what_has_no_such_type_is_named():
    layer = Layer(Target("text_encoder", "words"), "embedding", (50, 16))
    with pytest.raises(NotSupported, match=r"text_encoder.words: an embedding cannot be written as lokr"):
        form("lokr")(change_of(layer, CASES["lora"](layer.shape)), Goal(rank=2))
    with pytest.raises(NotSupported, match='did you mean "lokr"'):
        form("lokrr")


@pytest.mark.parametrize("goal", [Goal(), Goal(rank=3), Goal(error=0.3), Goal(rank=2, type="lokr", factor=4), Goal(error=0.05)], ids=str)
@pytest.mark.parametrize("layer", [LINEAR, CONV], ids=["linear", "conv"])
def test_lycoris_loads_every_lokr(goal, layer):
    """As its own loader, which guesses from shapes what is factored, and with the same change; 1e-5 of the largest value."""
    for adapter in (CASES["lora"](layer.shape), Full(diff=random(*layer.shape)), nearly_kronecker(layer, 4, 4, 0.05)):
        made = form("lokr")(change_of(layer, adapter), goal).adapter
        out, columns, *kernel = layer.shape
        live = torch.nn.Conv2d(columns, out, kernel) if kernel else torch.nn.Linear(columns, out)
        parts = [made.w1, None, None, made.w2, made.w2_a, made.w2_b, None, None, made.alpha, None]
        with torch.no_grad():
            loaded = LokrModule.make_module_from_state_dict("x", live, *parts)
        expected = made.delta(torch.zeros(layer.shape))
        found = loaded.get_diff_weight(1.0)[0].detach().reshape(layer.shape)
        assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(("kind", "goal"), [("lora", Goal(rank=2, type="lora")), ("lokr", Goal(type="lokr")), ("full", Goal(type="full"))])
def test_a_mix_is_of_the_type_that_was_asked_for(kind, goal):
    found = combine([(network(NANO, seed=1), Strength.of(0.8)), (network(NANO, seed=2), Strength.of(0.5))], NANO, goal)
    assert {adapter.name for adapter in found.file.adapters.values()} == {kind}
    assert all(isinstance(adapter, LoRA | LoKr | Full) for adapter in found.file.adapters.values())


@pytest.mark.parametrize(
    "options", [{"factor": 4}, {"factor": 4, "type": "lora", "rank": 4}, {"factor": 0, "type": "lokr", "rank": 4}], ids=str
)
def test_a_factor_without_meaning_is_refused(options):
    with pytest.raises(SettingsError, match="factor"):
        Goal(**options)
