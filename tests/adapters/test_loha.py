"""LoHa against LyCORIS' and PEFT's forward, the written-out sums, the size of its factors; what contradicts itself."""

import peft
import pytest
import torch
from judges import LAYERS, lycoris, made, through_peft
from lycoris.modules.loha import LohaModule
from lycoris_kinds import random_loha
from support import close

from loraloom.adapters import MAX_RANK, Full, LoHa, read_adapter
from loraloom.errors import BadTensor, LimitExceeded, UnknownFormat


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "options",
    [{}, {"use_tucker": True}, {"rs_lora": True}, {"use_scalar": True}, {"bypass_mode": True}],
    ids="".join,
)
def test_output_equals_lycoris(layer, options):
    module, x = made(layer)
    tensors, expected = lycoris(LohaModule, module, x, lora_dim=3, alpha=2, **options)
    ours = read_adapter(tensors)
    assert isinstance(ours, LoHa)
    with torch.no_grad():
        y = module(x)
        assert close(y + ours.branch(module, x, y), expected)
        assert close(y + ours.bound(module.weight).branch(module, x, y), expected)
        module.weight += ours.delta(module.weight)
        assert close(module(x), expected)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("effective", [False, True], ids=["plain", "tucker"])
def test_output_equals_peft(layer, effective):
    """PEFT's alpha is in its configuration, and over the rank as ours."""
    module, x = made(layer)
    config = peft.LoHaConfig(r=3, alpha=2, target_modules=["0"], use_effective_conv2d=effective, init_weights=False)
    tensors, expected, _ = through_peft(config, module, x)
    ours = read_adapter({**tensors, "alpha": torch.tensor(2)})
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
    tensors, _ = lycoris(LohaModule, module, x, lora_dim=3, alpha=2, use_tucker=True)
    ours = read_adapter({suffix: tensor if suffix == "alpha" else tensor.to(dtype) for suffix, tensor in tensors.items()})
    module, x = module.to(dtype), x.to(dtype)
    with torch.no_grad():
        y = module(x)
        beside = [y + ours.branch(module, x, y), y + ours.bound(module.weight).branch(module, x, y)]
        exact = module.weight.float() + ours.delta(module.weight)
        wide = module.float()
        wide.weight.copy_(exact)
        assert all(found.dtype == dtype for found in beside)
        assert all(close(found.float(), wide(x.float()), 0.02 if dtype == torch.bfloat16 else 0.005) for found in beside)


def test_lycoris_merges_with_the_scale_twice():
    """A known error of LyCORIS 4.1: `get_diff_weight`, which its merge uses, multiplies by alpha/r again; its forward does not."""
    module, x = made("linear")
    judge = LohaModule("name", module, 1.0, lora_dim=4, alpha=2)
    with torch.no_grad():
        for parameter in judge.parameters():
            parameter.copy_(torch.randn_like(parameter))
        tensors = {suffix: tensor.detach() for suffix, tensor in judge.custom_state_dict().items()}
        ours = read_adapter(tensors).delta(module.weight)
        assert close(ours, judge.get_weight(module.weight.shape))
        assert close(ours * 2 / 4, judge.get_diff_weight(1, module.weight.shape)[0])
        assert close(module(x) + torch.nn.functional.linear(x, ours), judge.forward(x))


def test_tucker_equals_the_written_out_sum():
    """X[p,q,..] = Σ_ij t[i,j,..] w_a[i,p] w_b[j,q] on both sides: formats.md §2."""
    adapter = random_loha(8, 12, 3, 3, rank=3, alpha=2.0, tucker=True)
    sides = []
    for core, a, b in ((adapter.t1, adapter.w1_a, adapter.w1_b), (adapter.t2, adapter.w2_a, adapter.w2_b)):
        total = torch.zeros(8, 12, 3, 3, dtype=torch.float64)
        for i in range(3):
            for j in range(3):
                total += torch.einsum("p,hw,q->pqhw", a[i].double(), core[i, j].double(), b[j].double())
        sides.append(total)
    assert close(adapter.delta(torch.zeros(8, 12, 3, 3)), sides[0] * sides[1] * 2 / 3, 1e-6)


@pytest.mark.parametrize(("rank", "ranks"), [(1, 1), (2, 4), (3, 8), (5, 8)])
def test_factors_have_rank_squared_and_never_more_than_the_shorter_side(rank, ranks):
    adapter = random_loha(8, 12, rank=rank)
    down, up = adapter.factors((8, 12))
    assert (down.shape, up.shape) == ((ranks, 12), (8, ranks))
    assert close(up @ down, adapter.delta(torch.zeros(8, 12)), 1e-6)


def test_thin_only_where_the_factors_are_smaller_than_the_weight():
    assert random_loha(64, 96, rank=6).thin((64, 96)) is not None  # 36 · 160 < 64 · 96
    assert random_loha(64, 96, rank=7).thin((64, 96)) is None


def test_a_large_rank_allocates_no_squares():
    """4,096² ranks would be 4 TB: the factors are the weight and an identity."""
    adapter = random_loha(64, 96, rank=MAX_RANK)
    down, up = adapter.factors((64, 96))
    assert down.numel() + up.numel() == 64 * 96 + 64 * 64
    assert adapter.thin((64, 96)) is None


@pytest.mark.parametrize("tucker", [False, True])
def test_cut_is_the_product_of_the_first_ranks_at_the_same_scale(tucker):
    adapter = random_loha(8, 12, 3, 3, rank=4, alpha=2.0, tucker=tucker)
    cut = adapter.cut(2)
    kept = random_loha(8, 12, 3, 3, rank=4, alpha=2.0, tucker=tucker)
    axis = 0 if tucker else 1
    for name in ("w1_a", "w2_a"):
        getattr(kept, name).narrow(axis, 2, 2).zero_()
    if tucker:
        for name in ("t1", "t2"):
            getattr(kept, name)[:, 2:].zero_()
    assert close(cut.delta(torch.zeros(8, 12, 3, 3)), kept.delta(torch.zeros(8, 12, 3, 3)), 1e-6)
    assert cut.scaling() == (2, 0.5)
    assert adapter.cut(4) is adapter
    assert set(cut.by_alpha().tensors()) == set(adapter.tensors())
    assert torch.equal(cut.by_alpha().delta(torch.zeros(8, 12, 3, 3)), cut.delta(torch.zeros(8, 12, 3, 3)))


def test_what_is_bound_is_worked_out_once_and_in_the_dtype_of_the_weight():
    bound = random_loha(8, 12, bias=True).bound(torch.zeros(8, 12, dtype=torch.bfloat16))
    assert isinstance(bound, Full)
    assert bound.diff.dtype == torch.bfloat16
    assert bound.bias is not None


@pytest.mark.parametrize(
    ("target", "fits"),
    [((8, 12), True), ((8, 12, 1, 1), True), ((8, 3, 2, 2), True), ((8, 13), False), ((9, 12), False), ((12, 8), False), ((96,), False)],
)
def test_the_kernel_of_a_flat_file_is_where_the_target_has_it(target, fits):
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in random_loha(8, 12).tensors().items()}
    assert (LoHa.delta_shape(shapes, target) == target) == fits
    assert (LoHa.misfit(shapes, target) is None) == fits


@pytest.mark.parametrize(("target", "fits"), [((8, 12, 3, 3), True), ((8, 12, 3, 1), False), ((8, 108), False), ((8, 12), False)])
def test_a_core_says_the_kernel(target, fits):
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in random_loha(8, 12, 3, 3, tucker=True).tensors().items()}
    assert (LoHa.misfit(shapes, target) is None) == fits


CORES = {"hada_t1": (3, 3, 3, 3), "hada_t2": (3, 3, 3, 3), "hada_w1_a": (3, 8), "hada_w2_a": (3, 8)}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"hada_w1_a": (8, 4)}, BadTensor),
        ({"hada_w1_a": (8, 4), "hada_w2_a": (8, 4)}, BadTensor),
        ({"hada_w2_a": (8, 4), "hada_w2_b": (4, 12)}, BadTensor),
        ({"hada_w2_b": (3, 13)}, BadTensor),
        ({"hada_w1_a": (8,), "hada_w2_a": (8,)}, BadTensor),
        ({"hada_w1_b": (), "hada_w2_b": ()}, BadTensor),
        ({"hada_w1_a": (8, 0), "hada_w2_a": (8, 0), "hada_w1_b": (0, 12), "hada_w2_b": (0, 12)}, BadTensor),
        ({"hada_t1": (3, 3, 3, 3)}, BadTensor),
        ({**CORES, "hada_t2": (3, 3, 1, 1)}, BadTensor),
        ({**CORES, "hada_t1": (3, 4, 3, 3), "hada_t2": (3, 4, 3, 3)}, BadTensor),
        ({**CORES, "hada_t1": (3, 3), "hada_t2": (3, 3)}, BadTensor),
        ({**CORES, "hada_w1_a": (8, 3), "hada_w2_a": (8, 3)}, BadTensor),
        (
            {f"hada_w{side}_a": (8, MAX_RANK + 1) for side in (1, 2)} | {f"hada_w{side}_b": (MAX_RANK + 1, 12) for side in (1, 2)},
            LimitExceeded,
        ),
        ({"alpha": (2,)}, BadTensor),
        ({"diff_b": (8, 1)}, BadTensor),
        ({"hada_w3_a": (8, 3)}, UnknownFormat),
    ],
    ids=str,
)
def test_shapes_that_contradict_one_another_are_refused(changes, error):
    plain = {"hada_w1_a": (8, 3), "hada_w1_b": (3, 12), "hada_w2_a": (8, 3), "hada_w2_b": (3, 12)}
    with pytest.raises(error):
        read_adapter({suffix: torch.zeros(shape) for suffix, shape in (plain | changes).items()})


def test_a_fresh_one_is_drawn_as_lycoris_draws_it():
    """Normal: w_b of deviation 1, w1_a and the cores of 0.1, w2_a zero."""
    fresh = LoHa.init(torch.zeros(300, 200, 3, 3), rank=16, alpha=8, tucker=True)
    deviations = {"w1_a": 0.1, "w1_b": 1, "w2_b": 1, "t1": 0.1, "t2": 0.1}
    assert all(abs(float(getattr(fresh, name).std()) / deviation - 1) < 0.1 for name, deviation in deviations.items())
    assert not fresh.w2_a.any()
    judge = LohaModule("name", torch.nn.Conv2d(200, 300, 3), 1.0, lora_dim=16, alpha=8, use_tucker=True).custom_state_dict()
    assert {suffix: tensor.shape for suffix, tensor in fresh.tensors().items()} == {
        suffix: tensor.shape for suffix, tensor in judge.items()
    }
