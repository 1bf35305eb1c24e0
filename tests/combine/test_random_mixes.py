"""Random mixes over types, namings, components, blocks and strengths: the file, read back, is the sum, and its report is true.

Networks are read from files of random namings, and the sum is formed here from their deltas, in float64.
"""

import random
from dataclasses import replace

import pytest
import torch
from cases import CASES
from networks import WEIGHTS, assert_is, of_type, summed

from loraloom.bases import NANO
from loraloom.combine import CombineRequest, Goal, combine
from loraloom.dialects import DIALECTS, read, write
from loraloom.errors import BadTensor, DialectCannotHold, NothingApplied
from loraloom.extracting import extract
from loraloom.schedule import Schedule
from loraloom.strength import Strength

WRITTEN = [dialect.name for dialect in DIALECTS if dialect.writes]
KINDS = frozenset({"linear", "conv", "norm", "embedding"})
NARROW = ("peft", "peft-folder")  # hold few types, and no embeddings
SEEDS = [*range(40), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(40, 200))]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A network of every case, read from a file of a naming that can hold it."""
    folder, order = tmp_path_factory.mktemp("pool"), random.Random(0)
    found, used = [], set()
    for number, name in enumerate(CASES):
        made = of_type(name, seed=number, share=8, kinds=KINDS if number % 3 == 1 else KINDS - {"embedding"})
        for dialect in sorted(order.sample(WRITTEN, len(WRITTEN)), key=lambda dialect: dialect not in NARROW):
            try:
                path = write(made, folder / f"{number}-{dialect}.safetensors", dialect, dtype=torch.float32)
            except (BadTensor, DialectCannotHold):
                continue
            used.add(dialect)
            found.append(read(path, NANO, force=True))
            break
    assert used == set(WRITTEN)
    return found


def random_strength(order):
    value = Schedule.of(round(order.uniform(-1, 1.5), 2))
    parts = {name: Schedule.of(order.choice([0, 0.5, -0.4, 1])) for name in ("te", "unet", "in_", "mid", "out") if order.random() < 0.3}
    return Strength(value, **parts, dyn=order.choice([None, None, 2]))


def random_mix(order, pool):
    return [(file, random_strength(order)) for file in order.sample(pool, order.randint(1, 4))]


def cut(stack):
    """The stack with its networks' ranks cut as their strengths say, and strengths that say it no longer."""
    return [
        (
            replace(file, adapters={target: adapter.cut(strength.dyn) or adapter for target, adapter in file.adapters.items()})
            if strength.dyn
            else file,
            replace(strength, dyn=None),
        )
        for file, strength in stack
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_mix_is_the_sum_of_its_deltas(pool, tmp_path, seed):
    """Exact ones within 1e-6 of the parts' sizes, which rounding is a part of where they cancel; others within their bound."""
    order = random.Random(seed)
    stack = random_mix(order, pool)
    components = order.choice([NANO.components, ("unet",), ("text_encoder",)])
    error = order.choice([None, None, 0.2, 0.01])
    request = CombineRequest(mix="", error=error, dtype="fp32", components=components, dialect=order.choice(WRITTEN))
    deltas, _ = summed(cut(stack), components)
    try:
        found = extracted(stack, tmp_path / "x.safetensors", request)
    except NothingApplied:
        assert all(float(delta.norm()) == 0 for delta in deltas.values())
        return
    made = read(found.path, NANO, force=True)
    if error is None:
        assert_is(made, cut(stack), 1e-6, components, of_parts=True)
    for target, row in zip(made_in_order(made, found), found.rows, strict=True):
        norm = float(deltas[target].norm())
        real = float((made.adapters[target].delta(WEIGHTS[target]).double() - deltas[target]).norm()) / norm if norm else 0.0
        assert row.written == pytest.approx(real, rel=1e-3, abs=2e-5)
        assert error is None or real <= error * (1 + 1e-5)


def extracted(stack, path, request):
    """In the naming that was asked for, or in kohya's where that cannot hold the result."""
    try:
        return extract(stack, NANO, path, request, weights=WEIGHTS.get)
    except DialectCannotHold:
        assert not path.exists()
        return extract(stack, NANO, path, request.model_copy(update={"dialect": "kohya"}), weights=WEIGHTS.get)


def made_in_order(made, found):
    by_name = {str(target): target for target in made.adapters}
    assert by_name.keys() == {row.module for row in found.rows}
    return [by_name[row.module] for row in found.rows]


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_networks_and_of_their_modules_is_nothing_but_rounding(pool, seed):
    order = random.Random(1000 + seed)
    stack = random_mix(order, pool)
    goal = order.choice([Goal(), Goal(rank=3)])
    shuffled = [(replace(file, adapters=dict(order.sample([*file.adapters.items()], len(file.adapters)))), s) for file, s in stack]
    order.shuffle(shuffled)
    try:
        first = combine(stack, NANO, goal, weights=WEIGHTS.get)
    except NothingApplied:
        with pytest.raises(NothingApplied):
            combine(shuffled, NANO, goal, weights=WEIGHTS.get)
        return
    second = combine(shuffled, NANO, goal, weights=WEIGHTS.get)
    assert [(module.target, module.rank) for module in first.modules] == [(module.target, module.rank) for module in second.modules]
    for one, other in zip(first.modules, second.modules, strict=True):
        assert one.error == pytest.approx(other.error, abs=1e-6)
        if goal.exact:
            weight = WEIGHTS[one.target]
            limit = 1e-5 * max(1e-30, one.norm)
            assert float((one.adapter.delta(weight).double() - other.adapter.delta(weight).double()).norm()) <= limit


def test_the_same_mix_is_the_same_file_to_the_byte(pool, tmp_path):
    for error in (None, 0.05):
        stack = random_mix(random.Random(7), pool)
        paths = [tmp_path / f"{error}-{number}" / "x.safetensors" for number in range(2)]
        for path in paths:
            extract(stack, NANO, path, CombineRequest(mix="", error=error), weights=WEIGHTS.get)
        assert paths[0].read_bytes() == paths[1].read_bytes()
