"""BOFT against LyCORIS' forward, with every number of stages; where we differ in between; what contradicts itself."""

import pytest
import torch
from agree import agree, merged, rounded
from judges import LAYERS, lycoris, made
from lycoris.functional import power2factorization
from lycoris.modules.boft import ButterflyOFTModule
from support import close, random_boft
from torch import nn

from loraloom.adapters import BOFT, MAX_RANK, OFT, NotExact, adapter_type, read_adapter
from loraloom.adapters.rotation import MAX_BLOCKS
from loraloom.errors import BadTensor, LimitExceeded, SettingsError


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("rank", [2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"constraint": 0.02}, {"rescaled": True}], ids=["plain", "constrained", "rescaled"])
def test_output_equals_lycoris(layer, rank, options):
    module, x = made(layer)
    tensors, expected = lycoris(ButterflyOFTModule, module, x, lora_dim=rank, **options)
    ours = read_adapter(tensors)
    assert isinstance(ours, BOFT)
    assert agree(ours, module, x, expected)


def test_output_equals_lycoris_where_blocks_are_no_power_of_two():
    """320 rows, as Stable Diffusion has: 32 blocks of 10 in 6 stages."""
    torch.manual_seed(0)
    module, x = nn.Linear(6, 320), torch.randn(3, 6)
    tensors, expected = lycoris(ButterflyOFTModule, module, x, lora_dim=16)
    assert tuple(tensors["oft_blocks"].shape) == (6, 32, 10, 10)
    assert agree(read_adapter(tensors), module, x, expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_between_0_and_1_lycoris_bends_and_we_are_linear(layer):
    """LyCORIS moves each stage towards I, so its half strength is not half the change; formats.md §1 is linear for every type."""
    module, x = made(layer)
    tensors, _ = lycoris(ButterflyOFTModule, module, x, lora_dim=2)
    judge = ButterflyOFTModule("name", module, 0.5, lora_dim=2)
    judge.load_state_dict(tensors)
    judge.apply_to()
    with torch.no_grad():
        theirs = module(x)
        judge.restore()
        assert not close(merged(read_adapter(tensors), module, 0.5)(x), theirs, 1e-3)


@pytest.mark.parametrize("layer", LAYERS)
def test_lycoris_reads_what_we_write(layer):
    module, x = made(layer)
    ours = random_boft(*module.weight.shape, size=2, rescale=True)
    parts = ButterflyOFTModule.extract_state_dict({f"name.{suffix}": tensor for suffix, tensor in ours.tensors().items()}, "name")
    with torch.no_grad():
        judge = ButterflyOFTModule.make_module_from_state_dict("name", module, *parts)
        judge.apply_to()
        expected = module(x)
        judge.restore()
        assert agree(ours, module, x, expected)


@pytest.mark.parametrize(("out", "columns", "stages"), [(16, 40, 4), (16, 40, 2), (16, 6, 4), (16, 6, 1)])
def test_what_is_worked_out_is_no_larger_than_the_weight(out, columns, stages):
    """The stages as one block-diagonal where rows far apart never meet, or are fewer than the columns; else the whole delta."""
    torch.manual_seed(0)
    module, x = nn.Linear(columns, out), torch.randn(3, columns)
    ours = random_boft(out, columns, size=2, stages=stages, rescale=True, bias=True)
    assert ours.bound(module.weight).nbytes <= ours.nbytes + module.weight.nbytes
    assert agree(ours, module, x, merged(ours, module)(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
def test_half_precision_is_a_rounding_of_float32(layer, dtype):
    module, x = made(layer)
    assert rounded(random_boft(*module.weight.shape, rescale=True, bias=True), module, x, dtype)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_rotation_keeps_the_singular_values(layer):
    module, _ = made(layer)
    before = torch.linalg.svdvals(module.weight.detach().flatten(1))
    assert close(torch.linalg.svdvals(merged(random_boft(*module.weight.shape), module).weight.detach().flatten(1)), before)


def test_the_dimensions_of_oft_blocks_say_which_type():
    assert adapter_type({"oft_blocks": (2, 4, 4), "alpha": ()}) is OFT
    assert adapter_type({"oft_blocks": (2, 2, 4, 4), "alpha": ()}) is BOFT


def test_a_constraint_has_no_nan_in_its_gradient():
    blocks = torch.zeros(3, 4, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(BOFT(blocks=blocks, alpha=torch.tensor(0.01)).delta(torch.randn(8, 6)).sum(), blocks)
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("out", [4, 8, 12, 320, 640, 768, 1280, 2560])
def test_blocks_are_as_large_as_lycoris_makes_them(out):
    for rank in range(1, 65):
        size, blocks = power2factorization(out, rank)
        if not blocks:
            with pytest.raises(SettingsError, match=f"{out} rows cannot be halved down to blocks of {rank} or fewer; use a size out of"):
                BOFT.init(torch.empty(out, 1), rank=rank, alpha=1)
            continue
        stages = sum(int(bit) for bit in f"{blocks - 1:b}") + 1  # LyCORIS' own count
        assert BOFT.init(torch.empty(out, 1), rank=rank, alpha=1).blocks.shape == (stages, blocks, size, size)


def test_more_stages_than_halves_are_refused_at_init():
    with pytest.raises(SettingsError, match="4 stages; 4 blocks of 2 take 1 to 3"):
        BOFT.init(torch.zeros(8, 6), rank=2, alpha=1, boft_m=4)


def test_rows_of_a_butterfly_are_not_cut():
    with pytest.raises(NotExact):
        random_boft(8, 6).rows(0, 4)


@pytest.mark.parametrize(
    ("shapes", "error", "says"),
    [
        ({"oft_blocks": (2, 2, 4, 3)}, BadTensor, r"\[2, 2, 4, 3\] are no square blocks"),
        ({"oft_blocks": (2, 0, 4, 4)}, BadTensor, "no square blocks"),
        ({"oft_blocks": (1, 2, 3, 3)}, BadTensor, "blocks of 3 rows; a butterfly pairs two halves"),
        ({"oft_blocks": (4, 4, 2, 2)}, BadTensor, "has 4 stages; 4 blocks take 3 at most"),
        ({"oft_blocks": (2, 3, 2, 2)}, BadTensor, "has 2 stages; 3 blocks take 1 at most"),
        ({"oft_blocks": (2, 2, 4, 4), "alpha": (2,)}, BadTensor, r"alpha is one number, not \[2\]"),
        ({"oft_blocks": (2, 2, 4, 4), "rescale": (9, 1)}, BadTensor, r"rescale \[9, 1\] .* 8 rows"),
        ({"oft_blocks": (1, MAX_BLOCKS + 1, 2, 2)}, LimitExceeded, "65,537 blocks, the limit is 65,536"),
        ({"oft_blocks": (1, 1, MAX_RANK + 2, MAX_RANK + 2)}, LimitExceeded, "blocks of 4,098 rows"),
    ],
    ids=str,
)
def test_shapes_that_contradict_one_another_are_refused(shapes, error, says):
    with pytest.raises(error, match=says):
        read_adapter({suffix: torch.empty(shape, device="meta") for suffix, shape in shapes.items()})


def test_blocks_for_another_number_of_rows_do_not_fit():
    assert BOFT.misfit({"oft_blocks": (2, 2, 4, 4)}, (8, 12)) is None
    assert BOFT.misfit({"oft_blocks": (2, 2, 4, 4)}, (12, 12)) == "the adapter gives [8, 12], the module has [12, 12]"
