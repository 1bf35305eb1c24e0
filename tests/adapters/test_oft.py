"""OFT against LyCORIS' forward, kohya's formula written out and legacy files' R; block sizes; what contradicts itself."""

import pytest
import torch
from agree import agree, merged, rounded
from judges import LAYERS, lycoris, made
from lycoris.functional import factorization
from lycoris.modules.diag_oft import DiagOFTModule
from support import close, random_oft, random_oft_diag

from loraloom.adapters import MAX_RANK, OFT, NotExact, OFTDiag, read_adapter
from loraloom.adapters.rotation import MAX_BLOCKS, fitting_size, joined
from loraloom.errors import BadTensor, LimitExceeded, SettingsError

OPTIONS = {"plain": {}, "constrained": {"constraint": 0.02}, "idle constraint": {"constraint": 50.0}, "rescaled": {"rescaled": True}}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_output_equals_lycoris(layer, options):
    module, x = made(layer)
    tensors, expected = lycoris(DiagOFTModule, module, x, lora_dim=4, **options)
    ours = read_adapter(tensors)
    assert isinstance(ours, OFT)
    assert agree(ours, module, x, expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_strength_is_linear_as_in_lycoris(layer):
    """LyCORIS weighs R itself; with its `rescaled` it does not weigh the rescaling, so that case is ours alone."""
    module, x = made(layer)
    tensors, expected = lycoris(DiagOFTModule, module, x, lora_dim=4)
    judge = DiagOFTModule("name", module, 0.4, lora_dim=4)
    judge.load_state_dict(tensors)
    judge.apply_to()
    with torch.no_grad():
        half = module(x)
        judge.restore()
        assert not close(half, expected, 1e-2)
        assert close(merged(read_adapter(tensors), module, 0.4)(x), half)


@pytest.mark.parametrize("layer", LAYERS)
def test_lycoris_reads_what_we_write(layer):
    """Where blocks are no more rows than there are blocks: its loader swaps the two numbers otherwise, and fails."""
    module, x = made(layer)
    ours = random_oft(*module.weight.shape, size=2, rescale=True)
    parts = DiagOFTModule.extract_state_dict({f"name.{suffix}": tensor for suffix, tensor in ours.tensors().items()}, "name")
    with torch.no_grad():
        judge = DiagOFTModule.make_module_from_state_dict("name", module, *parts)
        judge.apply_to()
        expected = module(x)
        judge.restore()
        assert agree(ours, module, x, expected)
        with pytest.raises(RuntimeError, match="must match the size"):
            DiagOFTModule.make_module_from_state_dict("name", module, torch.zeros(2, 4, 4), None, torch.tensor(0.0))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("alpha", "clamped"), [(1e-3, True), (1e3, False)])
def test_output_equals_kohya(layer, alpha, clamped):
    """sd-scripts networks/oft.py, written out in float64: alpha is the constraint, here of blocks larger than LyCORIS can make."""
    module, x = made(layer)
    ours = random_oft(*module.weight.shape, size=4, alpha=alpha)
    q = ours.blocks.double() - ours.blocks.double().transpose(1, 2)
    length = q.flatten().norm()
    assert (length > alpha * 8) == clamped
    q = q * (length.clamp(max=alpha * 8) + 1e-8) / (length + 1e-8)
    identity = torch.eye(4, dtype=torch.float64)
    r = (identity + q) @ (identity - q).inverse()
    weight = module.weight.detach().double()
    turned = torch.einsum("knm,kn...->km...", r, weight.reshape(2, 4, *weight.shape[1:])).reshape(weight.shape)
    assert close(ours.delta(module.weight), turned - weight)
    wide = merged(ours, module)
    with torch.no_grad():
        wide.weight.copy_(turned)
        assert agree(ours, module, x, wide(x))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_legacy_file_holds_r_itself(layer):
    module, x = made(layer)
    ours = read_adapter(random_oft_diag(*module.weight.shape, rescale=True).tensors())
    assert isinstance(ours, OFTDiag)
    weight = module.weight.detach().double()
    turned = torch.einsum("knm,kn...->km...", ours.blocks.double(), weight.reshape(2, 4, *weight.shape[1:])).reshape(weight.shape)
    wide = merged(ours, module)
    with torch.no_grad():
        wide.weight.copy_(turned * ours.rescale)
        assert agree(ours, module, x, wide(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("make", [random_oft, random_oft_diag])
def test_half_precision_is_a_rounding_of_float32(make, layer, dtype):
    module, x = made(layer)
    assert rounded(make(*module.weight.shape, rescale=True, bias=True), module, x, dtype)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_rotation_keeps_the_singular_values(layer):
    module, _ = made(layer)
    before = torch.linalg.svdvals(module.weight.detach().flatten(1))
    assert close(torch.linalg.svdvals(merged(random_oft(*module.weight.shape), module).weight.detach().flatten(1)), before)


def test_tiny_turns_keep_their_digits():
    """R − I is 2Q to first order; with R in float32 the half of its digits would be lost to the ones."""
    ours = OFT(blocks=random_oft(8, 8).blocks * 1e-6)
    wide = ours.blocks.double()
    q = wide - wide.mT
    expected = torch.block_diag(*(2 * q + 2 * q @ q)).mT
    assert close(ours.delta(torch.eye(8)), expected, 1e-6)


@pytest.mark.parametrize(("out", "size"), [(320, 10), (12, 2), (7, 7), (126, 9), (128, 64)])
def test_joined_blocks_are_the_same_matrix(out, size):
    blocks = torch.randn(out // size, size, size)
    larger = joined(blocks)
    assert larger.shape[1] >= min(32, out)
    assert torch.equal(torch.block_diag(*larger), torch.block_diag(*blocks))


@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_rows_are_cut_between_blocks(alpha):
    weight = torch.randn(12, 5)
    ours = random_oft(12, 5, size=3, alpha=alpha, rescale=True, bias=True)
    parts = [(start, stop, ours.rows(start, stop)) for start, stop in ((0, 3), (3, 12))]
    assert close(torch.cat([part.delta(weight[start:stop]) for start, stop, part in parts]), ours.delta(weight), 1e-6)
    assert torch.equal(torch.cat([part.bias for _, _, part in parts]), ours.bias)
    with pytest.raises(NotExact, match="rows 0 to 4 cut through blocks of 3"):
        ours.rows(0, 4)
    legacy = random_oft_diag(12, 5)
    assert close(legacy.rows(6, 12).delta(weight[6:]), legacy.delta(weight)[6:], 1e-6)


@pytest.mark.parametrize("blocks", [torch.zeros(2, 4, 4), torch.ones(2, 4, 4), torch.full((2, 4, 4), 1e-30)], ids=["0", "Q = 0", "tiny"])
def test_a_constraint_has_no_nan_in_its_gradient(blocks):
    blocks = blocks.clone().requires_grad_()
    weight = torch.randn(8, 6)
    (gradient,) = torch.autograd.grad(OFT(blocks=blocks, alpha=torch.tensor(0.01)).delta(weight).sum(), blocks)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_constraint_is_kept_while_training():
    ours = OFT.init(torch.zeros(8, 6), rank=4, alpha=1, constraint=1e-3)
    long = ours.with_tensors({"blocks": torch.randn_like(ours.blocks)})
    q = long.rows(0, 8).blocks * 2
    assert float(q.norm()) == pytest.approx(1e-3 * 8, rel=1e-5)


@pytest.mark.parametrize("out", [4, 8, 12, 18, 100, 127, 320, 640, 768, 1280, 2560, 10240])
def test_blocks_are_as_large_as_lycoris_makes_them(out):
    for rank in range(1, 65):
        assert fitting_size(out, rank) == factorization(out, rank)[0]


def test_blocks_that_turn_nothing_are_refused_at_init():
    with pytest.raises(SettingsError, match=r"blocks of 1 \(rank 4\) turn nothing in 7 rows; use a block_size out of 7"):
        OFT.init(torch.zeros(7, 6), rank=4, alpha=1)
    with pytest.raises(SettingsError, match="blocks of 3"):
        OFT.init(torch.zeros(8, 6), rank=4, alpha=1, block_size=3)


@pytest.mark.parametrize(
    ("shapes", "error", "says"),
    [
        ({"oft_blocks": (2, 4, 3)}, BadTensor, r"\[2, 4, 3\] are no square blocks"),
        ({"oft_blocks": (4, 4)}, BadTensor, r"\[4, 4\]"),
        ({"oft_blocks": ()}, BadTensor, "no square blocks"),
        ({"oft_blocks": (1, 1, 2, 4, 4)}, BadTensor, r"is not \[blocks, size, size\]"),
        ({"oft_blocks": (0, 4, 4)}, BadTensor, "no square blocks"),
        ({"oft_blocks": (2, 4, 4), "alpha": (2,)}, BadTensor, r"alpha is one number, not \[2\]"),
        ({"oft_blocks": (2, 4, 4), "rescale": (9, 1)}, BadTensor, r"rescale \[9, 1\] .* 8 rows"),
        ({"oft_blocks": (2, 4, 4), "rescale": (8, 2)}, BadTensor, r"rescale \[8, 2\]"),
        ({"oft_blocks": (2, 4, 4), "rescale": ()}, BadTensor, r"rescale \[\]"),
        ({"oft_blocks": (2, 4, 4), "diff_b": (9,)}, BadTensor, r"diff_b \[9\] .* 8 rows"),
        ({"oft_blocks": (MAX_BLOCKS + 1, 2, 2)}, LimitExceeded, "65,537 blocks, the limit is 65,536"),
        ({"oft_blocks": (1, MAX_RANK + 1, MAX_RANK + 1)}, LimitExceeded, "blocks of 4,097 rows, the limit is 4,096"),
        ({"oft_diag": (2, 4, 3)}, BadTensor, r"oft_diag \[2, 4, 3\]"),
        ({"oft_diag": (2, 2, 4, 4)}, BadTensor, r"is not \[blocks, size, size\]"),
        ({"oft_diag": (1, MAX_RANK + 1, MAX_RANK + 1)}, LimitExceeded, "4,097"),
    ],
    ids=str,
)
def test_shapes_that_contradict_one_another_are_refused(shapes, error, says):
    with pytest.raises(error, match=says):
        read_adapter({suffix: torch.empty(shape, device="meta") for suffix, shape in shapes.items()})


def test_blocks_for_another_number_of_rows_do_not_fit():
    shapes = {"oft_blocks": (2, 4, 4)}
    assert OFT.misfit(shapes, (8, 12, 3, 3)) is None
    assert OFT.misfit(shapes, (9, 12)) == "the adapter gives [8, 12], the module has [9, 12]"
