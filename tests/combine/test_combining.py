"""Mixes as one network: every type, exact and of a rank, against the sum of the deltas in float64."""

import json
import math
from functools import partial

import pytest
import torch
from cases import CASES
from networks import WEIGHTS, assert_is, of_type, summed
from support import network, random_lora

from loraloom.adapters import Full, LoRA
from loraloom.bases import NANO, SD1, SDXL, Target
from loraloom.combine import Goal, combine, curve, distances
from loraloom.errors import EngineError, NothingApplied, NotSupported, SettingsError, WrongBase
from loraloom.lorafile import LoraFile
from loraloom.schedule import Schedule
from loraloom.strength import Strength

of = Strength.of


@pytest.mark.parametrize("name", CASES)
def test_exact_is_the_sum_of_every_type(name):
    """1e-6 relative, float32."""
    stack = [(of_type(name), of(0.7)), (network(NANO, share=0.5), Strength(Schedule.of(0.4), te=Schedule.of(-0.3)))]
    found = combine(stack, NANO, Goal(), weights=WEIGHTS.get)
    assert_is(found.file, stack, 1e-6)
    assert found.error == 0
    assert not any(adapter.reads_weight for adapter in found.file.adapters.values())


@pytest.mark.parametrize("rank", [1, 4, 64])
def test_a_rank_is_as_near_as_the_svd(rank):
    """1e-5 of the optimum, by the full matrix in float64."""
    stack = [(network(NANO, seed=1), of(0.8)), (network(NANO, share=0.7, seed=2), of(-0.5)), (of_type("loha"), of(0.3))]
    found = combine(stack, NANO, Goal(rank=rank))
    deltas, _ = summed(stack)
    for module in found.modules:
        delta = deltas[module.target].flatten(1)
        values = torch.linalg.svdvals(delta)
        best = float(values[rank:].norm() / values.norm())
        assert module.adapter.rank <= rank
        assert module.error == pytest.approx(best, abs=1e-6)
        error = float((module.adapter.delta(WEIGHTS[module.target]).double().flatten(1) - delta).norm() / delta.norm())
        assert error <= best + 1e-5


@pytest.mark.parametrize("error", [0.3, 0.05])
def test_an_error_holds_in_every_module_and_no_rank_is_wasted(error):
    stack = [(network(NANO, seed=1, rank=8), of(0.8)), (network(NANO, seed=2, rank=8), of(0.5))]
    found = combine(stack, NANO, Goal(error=error))
    deltas, _ = summed(stack)
    for module in found.modules:
        values = torch.linalg.svdvals(deltas[module.target].flatten(1))
        assert float(values[module.rank :].norm() / values.norm()) <= error + 1e-6
        assert float(values[module.rank - 1 :].norm() / values.norm()) > error - 1e-6
    capped = combine(stack, NANO, Goal(error=error, max_rank=2))
    assert max(module.rank for module in capped.modules) <= 2


def test_networks_that_nearly_cancel_are_as_near_as_any():
    """One network twice with strengths that leave a ten-thousandth of it: 1e-5 of that, as of any change."""
    file = network(NANO, seed=1, rank=8)
    twin = LoraFile(file.adapters, {"ss_output_name": "twin"}, "nano")
    stack = [(file, of(1.0)), (twin, of(-0.9999))]
    found = combine(stack, NANO, Goal(rank=3))
    for module in found.modules:
        down, up = file.adapters[module.target].factors(NANO.by_target[module.target].shape)
        whole = (1.0 - 0.9999) * (up.double() @ down.double())
        values = torch.linalg.svdvals(whole)
        error = float((module.adapter.delta(WEIGHTS[module.target]).double().flatten(1) - whole).norm() / values.norm())
        assert error <= float(values[3:].norm() / values.norm()) + 1e-5


def test_energy_is_the_same_bound_in_squares():
    stack = [(network(NANO, seed=1, rank=8), of(1.0))]
    by_energy, by_error = combine(stack, NANO, Goal(energy=0.99)), combine(stack, NANO, Goal(error=0.1))
    assert [module.rank for module in by_energy.modules] == [module.rank for module in by_error.modules]


def test_components_blocks_and_ranks_are_those_of_the_strengths():
    file = network(NANO, rank=6)
    found = combine([(file, of(1.0))], NANO, Goal(), components=["unet"])
    assert {target.component for target in found.file.adapters} == {"unet"}
    half = Strength(in_=Schedule.of(0), mid=Schedule.of(1), out=Schedule.of(0.5), dyn=2)
    found = combine([(file, half)], NANO, Goal())
    assert all(NANO.by_target[target].third != "in" for target in found.file.adapters)
    assert {module.rank for module in found.modules} == {2}


def test_ranks_that_are_more_than_the_matrix_become_a_whole_change():
    target = Target("unet", "conv_in")
    files = [LoraFile({target: random_lora(16, 4, 3, 3, rank=8, seed=seed)}, {}, "nano") for seed in range(4)]
    found = combine([(file, of(1.0)) for file in files], NANO, Goal())
    assert isinstance(found.file.adapters[target], Full)
    assert_is(found.file, [(file, of(1.0)) for file in files], 1e-6)


def test_what_needs_the_base_says_so():
    with pytest.raises(NotSupported, match=r"the change of oft depends on the base's own weights; give the base"):
        combine([(of_type("oft"), of(1.0))], NANO, Goal())


@pytest.mark.parametrize(
    ("stack", "error", "reason"),
    [
        ([(network(NANO), Strength(Schedule.ramp(0, 1)))], NotSupported, "one strength for all steps"),
        ([(network(NANO), of(0.0))], NothingApplied, "at strength 0"),
        ([], NothingApplied, "nothing"),
        ([(LoraFile({}, {}, "sd1"), of(1.0))], WrongBase, "read for 'sd1'"),
    ],
)
def test_what_cannot_be_one_file_is_refused(stack, error, reason):
    with pytest.raises(error, match=reason):
        combine(stack, NANO, Goal())


@pytest.mark.parametrize(
    "options",
    [{"rank": 0}, {"rank": 5000}, {"error": -1}, {"error": 1}, {"energy": 0}, {"rank": 4, "error": 0.1}, {"max_rank": 4}],
    ids=str,
)
def test_goals_without_meaning_are_refused(options):
    with pytest.raises(SettingsError):
        Goal(**options)


def test_metadata_says_what_it_is_made_of():
    one = LoraFile(network(NANO).adapters, {"ss_output_name": "ink", "modelspec.trigger_phrase": "ink, wash"}, "nano")
    two = LoraFile(network(NANO, seed=9).adapters, {"ss_output_name": "neon", "modelspec.trigger_phrase": "neon, ink"}, "nano")
    told = combine([(one, of(0.5)), (two, of(1.0))], NANO, Goal(rank=4), mix="<lora:ink:0.5><lora:neon:1>").file.metadata
    assert told["modelspec.trigger_phrase"] == "ink, wash, neon"
    assert told["modelspec.merged_from"] == "ink, neon"
    made = json.loads(told["loraloom.combined_from"])
    assert (made["mix"], made["method"], [network["name"] for network in made["networks"]]) == (
        "<lora:ink:0.5><lora:neon:1>", "rank 4", ["ink", "neon"],
    )  # fmt: skip


def test_words_come_along_and_one_word_has_one_meaning():
    one, two = (
        LoraFile({}, {"ss_output_name": name}, "nano", embeddings={word: {"text_encoder": torch.ones(1, 24)}})
        for name, word in (("one", "x"), ("two", "y"))
    )
    assert combine([(one, of(1.0)), (two, of(1.0))], NANO, Goal()).file.embeddings.keys() == {"x", "y"}
    with pytest.raises(EngineError, match="both bring the word 'x'"):
        combine([(one, of(1.0)), (LoraFile({}, {"ss_output_name": "three"}, "nano", embeddings=one.embeddings), of(1.0))], NANO, Goal())


def test_distances_are_those_of_the_matrices():
    one, two = network(NANO, rank=5), network(NANO, rank=5, seed=4)
    found = distances(one, two, NANO)
    for target, adapter in two.adapters.items():
        own, other = adapter.delta(WEIGHTS[target]).double(), one.adapters[target].delta(WEIGHTS[target]).double()
        assert math.isclose(found[target], float((other - own).norm() / own.norm()), rel_tol=1e-5)
    assert max(distances(one, one, NANO).values()) < 1e-6


def test_the_same_mix_gives_the_same_bytes():
    stack = [(network(NANO, seed=1), of(0.8)), (network(NANO, seed=2), of(0.5))]
    first, second = (combine(stack, NANO, Goal(rank=3)).file for _ in range(2))
    for target, adapter in first.adapters.items():
        assert isinstance(adapter, LoRA)
        assert all(torch.equal(tensor, second.adapters[target].tensors()[suffix]) for suffix, tensor in adapter.tensors().items())


@pytest.mark.parametrize("goal", [Goal(rank=32), Goal(error=0.3), Goal()], ids=["rank", "error", "exact"])
def test_two_threads_give_the_bytes_of_one(goal):
    """On layers as large as SDXL's, where threads share the products."""
    layers = [layer for layer in SDXL.layers if layer.target.module.endswith(("attentions.0.transformer_blocks.0.ff.net.2", "fc1"))][:4]
    networks = [
        LoraFile({layer.target: random_lora(*layer.shape, rank=32, seed=seed) for layer in layers}, {}, "sdxl") for seed in range(2)
    ]
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(combine([(networks[0], of(0.8)), (networks[1], of(0.5))], SDXL, goal).file)
    finally:
        torch.set_num_threads(before)
    for target, adapter in found[0].adapters.items():
        assert all(torch.equal(tensor, found[1].adapters[target].tensors()[suffix]) for suffix, tensor in adapter.tensors().items())


@pytest.mark.parametrize(("base", "fits"), [(NANO, ()), (SD1, (17, 26)), (SDXL, (12, 20))])
@pytest.mark.parametrize("count", [12, 17, 20, 26])
def test_block_weights_of_another_family_are_refused(base, fits, count):
    """They would leave modules out without a word. Also in the second tag of one network, and where a curve is asked for."""
    file = LoraFile({}, {}, base.family)
    for strength in (Strength(lbw=(1.0,) * count), of(1.0) + Strength(lbw=(0.0,) * count)):
        for make in (partial(combine, goal=Goal(rank=1)), curve):
            if count in fits:
                base.require_blocks("ink", strength)
                continue
            with pytest.raises(NotSupported, match="this lbw is for a base of"):
                make([(file, strength)], base)
