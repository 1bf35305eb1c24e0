"""LoKr in every form against LyCORIS' and PEFT's forward, its scale rules, its cost beside a layer; what contradicts itself."""

import math

import peft
import pytest
import torch
from judges import lycoris, through_peft
from lycoris.functional.general import factorization
from lycoris.modules.lokr import LokrModule
from lycoris_kinds import random_lokr
from support import close
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from loraloom.adapters import MAX_RANK, Full, LoKr, read_adapter
from loraloom.adapters.lokr import factorized
from loraloom.errors import BadTensor, LimitExceeded, UnknownFormat

LAYERS = {  # 36 = 6·6 and 24 = 4·6: large enough for every part to be factored at rank 2
    "linear": lambda: nn.Linear(36, 24),
    "1x1": lambda: nn.Conv2d(36, 24, 1),
    "3x3 stride": lambda: nn.Conv2d(36, 24, 3, stride=2, padding=1),
}
FORMS = {
    "w1 and w2": ({"lora_dim": 3}, {"lokr_w1", "lokr_w2"}),
    "full matrix": ({"lora_dim": 2, "full_matrix": True}, {"lokr_w1", "lokr_w2"}),
    "w2 factored": ({"lora_dim": 2}, {"lokr_w1", "lokr_w2_a", "lokr_w2_b"}),
    "w2 factored, factor 2": ({"lora_dim": 4, "factor": 2}, {"lokr_w1", "lokr_w2_a", "lokr_w2_b"}),
    "both factored": ({"lora_dim": 2, "decompose_both": True}, {"lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"}),
    "w1 factored": ({"lora_dim": 2, "decompose_both": True, "factor": 12, "unbalanced_factorization": True}, None),
    "rs_lora": ({"lora_dim": 2, "rs_lora": True}, {"lokr_w1", "lokr_w2_a", "lokr_w2_b"}),
    "scalar": ({"lora_dim": 2, "use_scalar": True}, {"lokr_w1", "lokr_w2_a", "lokr_w2_b"}),
    "bypass": ({"lora_dim": 2, "decompose_both": True, "bypass_mode": True}, None),
}
TUCKER = {
    "w1": ({"lora_dim": 2, "use_tucker": True}, {"lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_t2"}),
    "w1 factored": (
        {"lora_dim": 2, "use_tucker": True, "decompose_both": True},
        {"lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2"},
    ),
}
CASES = [(form, layer) for form in FORMS.items() for layer in LAYERS]
CASES += [((f"tucker, {name}", form), "3x3 stride") for name, form in TUCKER.items()]


def made(layer: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module = LAYERS[layer]()
    return module, torch.randn((2, 36, 7, 6) if isinstance(module, nn.Conv2d) else (3, 36))


@pytest.mark.parametrize(("form", "layer"), CASES, ids=lambda value: value if isinstance(value, str) else value[0])
def test_output_equals_lycoris(form, layer):
    options, suffixes = form[1]
    module, x = made(layer)
    tensors, expected = lycoris(LokrModule, module, x, alpha=3, **options)
    if suffixes is not None:
        assert tensors.keys() - {"alpha"} == suffixes
    ours = read_adapter(tensors)
    assert isinstance(ours, LoKr)
    with torch.no_grad():
        y = module(x)
        assert close(y + ours.branch(module, x, y), expected)
        assert close(y + ours.bound(module.weight).branch(module, x, y), expected)
        module.weight += ours.delta(module.weight)
        assert close(module(x), expected)


def test_w1_alone_factored_takes_its_rank():
    """LyCORIS cannot make this form (the smaller part is factored only where the larger is): the formula is the judge."""
    adapter = random_lokr(24, 36, parts=(6, 6), first=True, rank=2, alpha=3.0)
    expected = torch.kron(adapter.w1_a.double() @ adapter.w1_b.double(), adapter.w2.double()) * 3 / 2
    assert close(adapter.delta(torch.zeros(24, 36)), expected, 1e-6)
    assert adapter.scaling() == (2, 1.5)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "options",
    [{"r": 4}, {"r": 2}, {"r": 2, "decompose_both": True}, {"r": 2, "use_effective_conv2d": True}, {"r": 2, "decompose_factor": 18}],
    ids=" ".join,
)
def test_output_equals_peft(layer, options):
    """PEFT divides by its configured rank where both parts are full too; a dialect says that as `scale`."""
    module, x = made(layer)
    config = peft.LoKrConfig(alpha=3, target_modules=["0"], init_weights=False, **options)
    tensors, expected, _ = through_peft(config, module, x)
    full = {"lokr_w1", "lokr_w2"} <= tensors.keys()
    ours = read_adapter({**tensors, "scale" if full else "alpha": torch.tensor(3 / options["r"] if full else 3)})
    with torch.no_grad():
        y = module(x)
        assert close(y + ours.branch(module, x, y), expected)
        module.weight += ours.delta(module.weight)
        assert close(module(x), expected)


def test_both_full_have_scale_1_unless_the_file_says_a_scale():
    """formats.md §2: LyCORIS writes its rank as alpha there and multiplies by nothing."""
    plain = random_lokr(8, 12, alpha=5.0)
    product = torch.kron(plain.w1.double(), plain.w2.double())
    assert close(plain.delta(torch.zeros(8, 12)), product, 1e-6)
    assert plain.scaling() is None
    scaled = read_adapter(plain.tensors() | {"scale": torch.tensor(0.75)})
    assert close(scaled.delta(torch.zeros(8, 12)), product * 0.75, 1e-6)
    folded = scaled.by_alpha()
    assert folded.tensors().keys() == plain.tensors().keys()
    assert close(folded.delta(torch.zeros(8, 12)), product * 0.75, 1e-6)
    assert plain.by_alpha() is not None
    assert torch.equal(plain.by_alpha().w1, plain.w1)


def test_both_factored_take_the_rank_of_w2():
    adapter = random_lokr(24, 36, parts=(4, 6), first=True, second=True, rank=2, alpha=3.0)
    assert adapter.scaling() == (2, 1.5)
    wider = LoKr(**{**adapter.trainable(), "w1_a": torch.ones(4, 3), "w1_b": torch.ones(3, 6)}, alpha=torch.tensor(3.0))
    assert wider.scaling() == (2, 1.5)


def test_full_matrix_with_rs_lora_is_not_said_by_its_tensors():
    """A known trap of LyCORIS 4.1: its forward multiplies by √r, its file has alpha = r√r and no r, its own loader multiplies by 1."""
    module, x = made("linear")
    tensors, expected = lycoris(LokrModule, module, x, lora_dim=4, alpha=3, full_matrix=True, rs_lora=True)
    assert tensors["alpha"] == 4**1.5
    ours = read_adapter(tensors)
    known = read_adapter(tensors | {"scale": tensors["alpha"] ** (1 / 3)})  # what a reader that knows of rs_lora can say
    with torch.no_grad():
        y = module(x)
        assert not close(y + ours.branch(module, x, y), expected, 0.01)
        assert close(y + known.branch(module, x, y), expected)


def test_lycoris_merges_with_the_scale_twice():
    """A known error of LyCORIS 4.1: `get_diff_weight`, which its merge uses, multiplies by alpha/r again; its forward does not."""
    module, x = made("linear")
    judge = LokrModule("name", module, 1.0, lora_dim=2, alpha=3)
    with torch.no_grad():
        for parameter in judge.parameters():
            parameter.copy_(torch.randn_like(parameter))
        tensors = {suffix: tensor.detach() for suffix, tensor in judge.custom_state_dict().items()}
        ours = read_adapter(tensors).delta(module.weight)
        assert close(ours, judge.get_weight(module.weight.shape))
        assert close(ours * 3 / 2, judge.get_diff_weight(1, module.weight.shape)[0])
        assert close(module(x) + nn.functional.linear(x, ours), judge.forward(x))


def test_lycoris_reads_the_rank_of_its_tucker_files_from_the_wrong_side():
    """A known error of LyCORIS 4.1: its loader takes w2_a.size(1) as the rank, which with a core is a width."""
    module, x = made("3x3 stride")
    tensors, _ = lycoris(LokrModule, module, x, lora_dim=2, alpha=3, use_tucker=True)
    weights = [tensors.get(suffix) for suffix in LokrModule.weight_list]
    with torch.no_grad(), pytest.raises((RuntimeError, AttributeError)):
        LokrModule.make_module_from_state_dict("name", module, *weights)
    assert read_adapter(tensors).scaling() == (2, 1.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"decompose_both": True, "use_tucker": True}], ids=["w2", "all"])
def test_half_precision_is_a_rounding_of_float32(layer, dtype, options):
    """8 or 11 bits of every value: within 2 % or 0.5 % of the largest output."""
    module, x = made(layer)
    tensors, _ = lycoris(LokrModule, module, x, lora_dim=2, alpha=3, **options)
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


def multiplications(layer: nn.Module, x: torch.Tensor, adapter: LoKr) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        adapter.branch(layer, x, torch.zeros(()))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("second", "expected"), [(False, 8 * 40 * 40), (True, 8 * 4 * (40 + 40))], ids=["w2 full", "w2 factored"])
@pytest.mark.parametrize("kernel", [0, 1, 3])
def test_the_branch_costs_its_two_parts_and_never_the_product(second, expected, kernel):
    """in·b for w2 (c·r·(d + b) factored) and c·a·b for w1 a position, where the layer has in·out."""
    points, window = (25, kernel**2) if kernel else (7, 1)
    layer = nn.Conv2d(320, 320, kernel, padding=kernel // 2, bias=False) if kernel else nn.Linear(320, 320, bias=False)
    x = torch.randn(1, 320, 5, 5) if kernel else torch.randn(7, 320)
    adapter = random_lokr(*layer.weight.shape, parts=(8, 8), second=second, rank=4).bound(layer.weight)
    own = 8 * 4 * (40 * window + 40) if second else expected * window
    assert multiplications(layer, x, adapter) == points * (own + 8 * 8 * 40)
    assert own + 8 * 8 * 40 < 320 * 320 * window / 4


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        ({"parts": (8, 8)}, 320),  # both full: as many as the weight is wide
        ({"parts": (8, 8), "second": True, "rank": 4}, 32),
        ({"parts": (8, 8), "first": True, "second": True, "rank": 4}, 16),
        ({"parts": (8, 8), "first": True, "rank": 4}, 160),
        ({"parts": (2, 4), "second": True, "rank": 4}, 8),
    ],
    ids=str,
)
def test_the_ranks_of_the_parts_multiply(options, ranks):
    adapter = random_lokr(320, 320, **options)
    down, up = adapter.factors((320, 320))
    assert (down.shape, up.shape) == ((ranks, 320), (320, ranks))
    assert close(up @ down, adapter.delta(torch.zeros(320, 320)), 1e-6)
    assert (adapter.thin((320, 320)) is None) == (ranks >= 160)


@pytest.mark.parametrize("second", [False, True])
def test_rows_stay_a_lokr_in_blocks_of_w2_and_inside_one(second):
    adapter = random_lokr(24, 36, 3, 3, parts=(4, 6), second=second, bias=True)  # blocks of 6 rows
    delta = adapter.delta(torch.zeros(24, 36, 3, 3))
    kinds = {(0, 6): LoKr, (6, 18): LoKr, (12, 24): LoKr, (0, 2): LoKr, (8, 12): LoKr, (0, 7): Full, (3, 12): Full, (5, 19): Full}
    for (start, stop), kind in kinds.items():
        part = adapter.rows(start, stop)
        assert isinstance(part, kind)
        assert torch.equal(part.bias, adapter.bias[start:stop])
        assert close(part.delta(torch.zeros(stop - start, 36, 3, 3)), delta[start:stop], 1e-6)


@pytest.mark.parametrize("tucker", [False, True])
def test_cut_keeps_the_first_ranks_and_the_scale(tucker):
    adapter = random_lokr(24, 36, 3, 3, parts=(4, 6), first=True, second=True, tucker=tucker, rank=3, alpha=6.0)
    kept = random_lokr(24, 36, 3, 3, parts=(4, 6), first=True, second=True, tucker=tucker, rank=3, alpha=6.0)
    kept.w1_b[2:].zero_()
    kept.w2_b[2:].zero_()
    if tucker:
        kept.w2_a[2:].zero_()
    assert close(adapter.cut(2).delta(torch.zeros(24, 36, 3, 3)), kept.delta(torch.zeros(24, 36, 3, 3)), 1e-6)
    assert adapter.cut(2).scaling() == (2, 2.0)
    assert adapter.cut(3) is adapter
    assert random_lokr(8, 12).cut(1) is None


@pytest.mark.parametrize("factor", [-1, 1, 2, 3, 4, 6, 8, 10, 16])
def test_a_width_is_factored_as_lycoris_does(factor):
    assert [factorized(width, factor) for width in range(1, 700)] == [factorization(width, factor) for width in range(1, 700)]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {}),
        ({"factor": 4}, {"factor": 4}),
        ({"decompose_both": True}, {"decompose_both": True}),
        ({"full_matrix": True}, {"full_matrix": True}),
        ({"tucker": True}, {"use_tucker": True}),
    ],
    ids=str,
)
def test_a_fresh_one_has_the_tensors_that_lycoris_makes(layer, options, theirs):
    module, _ = made(layer)
    fresh = LoKr.init(module.weight, rank=2, alpha=3, **options)
    judge = LokrModule("name", module, 1.0, lora_dim=2, alpha=3, **theirs).custom_state_dict()
    assert {suffix: tensor.shape for suffix, tensor in fresh.tensors().items()} == {
        suffix: tensor.shape for suffix, tensor in judge.items()
    }
    assert fresh.alpha == judge["alpha"]
    assert not fresh.delta(module.weight).any()
    assert all(tensor.any() for suffix, tensor in judge.items() if fresh.tensors()[suffix].any())


@pytest.mark.parametrize(
    ("target", "fits"),
    [
        ((24, 36), True),
        ((24, 36, 1, 1), True),
        ((24, 12, 3, 1), True),
        ((24, 9, 2, 2), False),
        ((24, 35), False),
        ((36, 24), False),
        ((864,), False),
    ],
)
def test_the_kernel_of_a_flat_file_is_where_the_target_has_it(target, fits):
    """w1 has 6 columns: 12 inputs are 2 for each, 9 cannot be shared out."""
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in random_lokr(24, 36, parts=(4, 6), second=True).tensors().items()}
    assert (LoKr.misfit(shapes, target) is None) == fits


def test_a_product_that_is_far_too_large_is_refused_by_its_shapes():
    """Two parts of 64 MiB whose product would be 256 TiB."""
    shapes = {"lokr_w1": (4096, 4096), "lokr_w2": (4096, 4096)}
    LoKr.check(shapes)
    assert math.prod(LoKr.delta_shape(shapes, (320, 320))) == 4096**4
    assert "the adapter gives [16777216, 16777216], the module has [320, 320]" in LoKr.misfit(shapes, (320, 320))


PLAIN = {"lokr_w1": (4, 6), "lokr_w2": (6, 6)}
FACTORED = {"lokr_w1": (4, 6), "lokr_w2_a": (6, 2), "lokr_w2_b": (2, 6)}
CORE = {"lokr_w1": (4, 6), "lokr_w2_a": (2, 6), "lokr_w2_b": (2, 6), "lokr_t2": (2, 2, 3, 3)}


@pytest.mark.parametrize(
    ("shapes", "error"),
    [
        (PLAIN | {"lokr_w2_a": (6, 2), "lokr_w2_b": (2, 6)}, BadTensor),
        (PLAIN | {"lokr_w1_b": (2, 6)}, BadTensor),
        (CORE | {"lokr_w2": (6, 6, 3, 3)}, BadTensor),
        (PLAIN | {"lokr_w1": (4,)}, BadTensor),
        (PLAIN | {"lokr_w1": (4, 6, 3, 3)}, BadTensor),
        (PLAIN | {"lokr_w2": ()}, BadTensor),
        (PLAIN | {"lokr_w2": (0, 6)}, BadTensor),
        (FACTORED | {"lokr_w2_b": (3, 6)}, BadTensor),
        (FACTORED | {"lokr_w2_a": (2, 6)}, BadTensor),
        (FACTORED | {"lokr_w2_a": (6, MAX_RANK + 1), "lokr_w2_b": (MAX_RANK + 1, 6)}, LimitExceeded),
        (CORE | {"lokr_w2_a": (6, 2)}, BadTensor),
        (CORE | {"lokr_t2": (2, 3, 3, 3)}, BadTensor),
        (CORE | {"lokr_t2": (2, 2)}, BadTensor),
        (CORE | {"lokr_w2_b": (2, 6, 3, 3)}, BadTensor),
        (PLAIN | {"alpha": (2,)}, BadTensor),
        (PLAIN | {"lokr_t1": (2, 2, 3, 3)}, UnknownFormat),
        ({"lokr_w1": (4, 6)}, UnknownFormat),
        ({"lokr_w1_a": (4, 2), "lokr_w2": (6, 6)}, UnknownFormat),
        ({"lokr_w1": (4, 6), "lokr_w2_a": (6, 2)}, UnknownFormat),
        ({"alpha": ()}, UnknownFormat),
    ],
    ids=str,
)
def test_shapes_that_contradict_one_another_are_refused(shapes, error):
    with pytest.raises(error):
        read_adapter({suffix: torch.zeros(shape) for suffix, shape in shapes.items()})
