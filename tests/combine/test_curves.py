"""The curve of a mix says what combining it gives, at every rank and every error, for every type."""

from itertools import pairwise

import pytest
import torch
from cases import CASES, FORMS, takes
from support import network

from loraloom.bases import NANO
from loraloom.combine import Goal, combine, curve
from loraloom.errors import Interrupted, NotSupported
from loraloom.lorafile import LoraFile
from loraloom.schedule import Schedule
from loraloom.strength import Strength

of = Strength.of
WEIGHTS = {layer.target: torch.randn(layer.shape, generator=torch.Generator().manual_seed(3)) for layer in NANO.layers}.get


def of_type(name):
    torch.manual_seed(0)
    layers = [layer for layer in NANO.layers if layer.kind in takes(name) and not (layer.kind == "embedding" and "bias" in name)]
    return LoraFile({layer.target: CASES[name](layer.shape) for layer in layers[:: max(1, len(layers) // 12)]}, {}, "nano")


def values_of(found):
    return sum(tensor.numel() for adapter in found.file.adapters.values() for tensor in adapter.tensors().values() if tensor.ndim)


def assert_is(point, found):
    """1e-5 of the change: lengths of float32 factors stand for singular values."""
    assert point.error == pytest.approx(found.error, abs=1e-5)
    assert point.worst == pytest.approx(found.worst.error, abs=1e-5)
    assert (point.least, point.most) == found.ranks
    assert point.values == values_of(found)


@pytest.mark.parametrize("name", [name if name in FORMS else pytest.param(name, marks=pytest.mark.long) for name in CASES])
def test_it_is_what_combining_gives(name):
    stack = [(of_type(name), of(0.7)), (network(NANO, share=0.5), of(0.4))]
    found = curve(stack, NANO, weights=WEIGHTS)
    point, bound = found.ranks[len(found.ranks) // 2], found.bounds[5]
    assert_is(point, combine(stack, NANO, Goal(rank=point.most), weights=WEIGHTS))
    assert_is(bound.point, combine(stack, NANO, Goal(error=bound.error), weights=WEIGHTS))
    assert bound.point.worst <= bound.error
    exact = combine(stack, NANO, Goal(), weights=WEIGHTS)
    assert (found.exact.least, found.exact.most) == exact.ranks
    assert found.exact.values == values_of(exact)
    assert found.full.values == values_of(combine(stack, NANO, Goal(type="full"), weights=WEIGHTS))
    try:
        lora = combine(stack, NANO, Goal(type="lora"), weights=WEIGHTS)
    except NotSupported:
        assert found.exact_lora is None
    else:
        assert found.exact_lora is not None
        assert (found.exact_lora.least, found.exact_lora.most) == lora.ranks
        assert found.exact_lora.values == values_of(lora)
    assert found.modules == len(exact.modules)


def test_larger_ranks_have_smaller_errors_down_to_none():
    points = curve([(network(NANO, seed=1, rank=8), of(0.8)), (network(NANO, seed=2, rank=8), of(0.5))], NANO).ranks
    assert [point.most for point in points] == list(range(1, 17))
    assert all(one.error > other.error and one.worst > other.worst and one.values < other.values for one, other in pairwise(points))
    assert points[-1].error < 1e-6


def test_every_module_is_told_and_what_is_raised_ends_it():
    told = []
    file = network(NANO)
    curve([(file, of(1.0))], NANO, on_module=lambda done, whole: told.append((done, whole)))
    assert told == [(done, len(file.adapters)) for done in range(1, len(file.adapters) + 1)]

    def stop(done, whole):
        raise Interrupted(f"{done} of {whole}")

    for work in (curve, lambda *arguments, **options: combine(*arguments, Goal(rank=1), **options)):
        with pytest.raises(Interrupted, match="1 of "):
            work([(file, of(1.0))], NANO, on_module=stop)


def test_a_mix_of_nothing_has_no_points():
    found = curve([(network(NANO), of(0.0))], NANO)
    assert (found.modules, found.ranks, found.components, found.exact.values) == (0, (), (), 0)
    with pytest.raises(NotSupported, match="one strength for all steps"):
        curve([(network(NANO), Strength(Schedule.ramp(0, 1)))], NANO)
