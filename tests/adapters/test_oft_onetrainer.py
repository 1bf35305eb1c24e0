"""OneTrainer's OFT against its formula written out, and PEFT's OFT where that is the same; what contradicts itself."""

import peft
import pytest
import torch
from agree import agree, merged, rounded
from judges import LAYERS, made, through_peft
from support import close, random_onetrainer_oft
from torch import Tensor, nn

from loraloom.adapters import MAX_RANK, OneTrainerOFT, read_adapter
from loraloom.adapters.rotation import MAX_BLOCKS
from loraloom.errors import BadTensor, LimitExceeded, SettingsError


def rotation(ours: OneTrainerOFT, columns: int) -> Tensor:
    """R, [columns, columns], float64: I + 2Q + 2Q² + 2Q³ + Q⁴ in blocks; Q's upper triangle is read row by row."""
    triangles = ours.triangles.double()
    size = next(size for size in range(2, 100) if size * (size - 1) // 2 == triangles.shape[1])
    blocks = []
    for triangle in triangles if len(triangles) > 1 else triangles.expand(columns // size, -1):
        values = iter(triangle / (2 * (size - 1) ** 0.5) if ours.scaled is not None else triangle)
        q = torch.zeros(size, size, dtype=torch.float64)
        for row in range(size):
            for column in range(row + 1, size):
                q[row, column] = next(values)
                q[column, row] = -q[row, column]
        blocks.append(torch.eye(size, dtype=torch.float64) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q)
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scaled", [True, False], ids=["scaled", "not scaled"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own blocks"])
def test_output_equals_the_written_out_formula(layer, scaled, shared):
    module, x = made(layer)
    ours = random_onetrainer_oft(*module.weight.shape, scaled=scaled, shared=shared)
    flat = module.weight.detach().double().flatten(1)
    r = rotation(ours, flat.shape[1])
    turned = flat @ (r if module.weight.ndim == 4 else r.mT)
    wide = merged(ours, module)
    with torch.no_grad():
        wide.weight.copy_(turned.reshape(module.weight.shape))
        assert agree(ours, module, x, wide(x))


def test_a_linear_turns_its_input():
    """As it is trained: blocks of x times R, then the layer."""
    module, x = made("linear")
    ours = random_onetrainer_oft(8, 12, size=6)
    with torch.no_grad():
        assert agree(ours, module, x, module((x.double() @ rotation(ours, 12)).float()))


@pytest.mark.parametrize("marker", [torch.tensor(True), torch.tensor(1), torch.tensor(0), torch.tensor([1.0])], ids=str)
def test_the_marker_counts_by_being_there(marker):
    ours = random_onetrainer_oft(8, 12)
    again = read_adapter({"oft_R.weight": ours.triangles, "oft_R.scaled_oft": marker})
    assert torch.equal(again.delta(torch.eye(12)), ours.delta(torch.eye(12)))
    plain = read_adapter({"oft_R.weight": ours.triangles / (2 * 3**0.5)})
    assert close(plain.delta(torch.eye(12)), ours.delta(torch.eye(12)), 1e-6)


@pytest.mark.parametrize("layer", ["linear", "no bias"])
@pytest.mark.parametrize("shared", [True, False])
def test_output_equals_peft_on_a_linear(layer, shared):
    """PEFT's OFT with its defaults (Cayley-Neumann, 5 terms) is the form that is not scaled."""
    module, x = made(layer)
    config = peft.OFTConfig(oft_block_size=4, block_share=shared, target_modules=["0"])
    tensors, expected, _ = through_peft(config, module, x, 0.2)
    ours = read_adapter(tensors)
    assert isinstance(ours, OneTrainerOFT)
    assert agree(ours, module, x, expected)


@pytest.mark.parametrize("layer", ["1x1", "3x3", "3x3 stride"])
def test_peft_turns_a_convolution_the_other_way(layer):
    """PEFT merges W Rᵀ there too: Rᵀ is R of −Q, so its triangles are ours with the sign changed.

    Known errors of PEFT, by name: `OFTRotationModule._fold` sums overlapping patches of the input, so that its forward on a
    kernel of several points is no change of the weight, and not what it merges.
    """
    module, x = made(layer)
    tensors, forward, wrapped = through_peft(peft.OFTConfig(oft_block_size=4, target_modules=["0"]), module, x, 0.2)
    ours = read_adapter({"oft_R.weight": -tensors["oft_R.weight"]})
    copied = nn.Conv2d(12, 8, module.kernel_size, module.stride, module.padding)
    copied.load_state_dict(module.state_dict())
    wrapped.merge()
    with torch.no_grad():
        expected = wrapped.get_base_layer()(x)
        assert agree(ours, copied, x, expected)
        assert close(forward, expected) == (layer == "1x1")


def test_pefts_other_forms_are_not_this_type():
    """The exact Cayley transform of PEFT is (I − Q)(I + Q)⁻¹, the other way round; other numbers of terms are other series."""
    for options in ({"use_cayley_neumann": False}, {"num_cayley_neumann_terms": 4}):
        module, x = made("linear")
        tensors, expected, _ = through_peft(peft.OFTConfig(oft_block_size=4, target_modules=["0"], **options), module, x, 0.2)
        y = module(x)
        assert not close(y + read_adapter(tensors).branch(module, x, y), expected, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
def test_half_precision_is_a_rounding_of_float32(layer, dtype):
    module, x = made(layer)
    assert rounded(random_onetrainer_oft(*module.weight.shape, bias=True), module, x, dtype)


@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_worked_out_for_a_weight_is_counted(layer):
    """R for a Linear and a 1×1, a whole delta where the kernel has points."""
    module, _ = made(layer)
    ours = random_onetrainer_oft(*module.weight.shape, shared=True)
    spread = module.weight[0, 0].numel() > 1
    assert ours.bound(module.weight).nbytes == (module.weight.nbytes if spread else ours.nbytes + 4 * 12 * 4)


@pytest.mark.parametrize(
    ("rank", "shape", "blocks", "triangle"), [(32, (8, 64), 2, 496), (5, (8, 12), 3, 6), (100, (8, 12), 1, 66), (4, (8, 3, 3, 3), 9, 3)]
)
def test_a_block_size_moves_to_the_nearest_divisor(rank, shape, blocks, triangle):
    """As PEFT's `adjust_oft_parameters` and OneTrainer; 5 in 12 columns is 4, of 4 and 6."""
    assert OneTrainerOFT.init(torch.empty(shape), rank=rank, alpha=1).triangles.shape == (blocks, triangle)


def test_one_column_cannot_turn():
    with pytest.raises(SettingsError, match="1 input column"):
        OneTrainerOFT.init(torch.empty(8, 1), rank=4, alpha=1)


@pytest.mark.parametrize(
    ("shapes", "error", "says"),
    [
        ({"oft_R.weight": (3, 7)}, BadTensor, r"7 is no triangle .* near are 6 of blocks of 4 and 10 of blocks of 5"),
        ({"oft_R.weight": (3, 0)}, BadTensor, r"\[3, 0\]"),
        ({"oft_R.weight": (6,)}, BadTensor, r"\[6\]"),
        ({"oft_R.weight": (3, 2, 3)}, BadTensor, r"\[3, 2, 3\]"),
        ({"oft_R.weight": (3, 6), "oft_R.scaled_oft": (0,)}, BadTensor, r"is one number, not \[0\]"),
        ({"oft_R.weight": (MAX_BLOCKS + 1, 1)}, LimitExceeded, "65,537 blocks"),
        ({"oft_R.weight": (1, (MAX_RANK + 1) * MAX_RANK // 2)}, LimitExceeded, "blocks of 4,097 rows"),
    ],
    ids=str,
)
def test_shapes_that_contradict_one_another_are_refused(shapes, error, says):
    with pytest.raises(error, match=says):
        read_adapter({suffix: torch.empty(shape, device="meta") for suffix, shape in shapes.items()})


@pytest.mark.parametrize(
    ("rows", "target", "reason"),
    [
        (3, (8, 12), None),
        (1, (8, 12), None),
        (1, (8, 12, 3, 3), None),
        (27, (8, 12, 3, 3), None),
        (3, (8, 12, 3, 3), "3 blocks of 4 do not make the 108 input columns of [8, 12, 3, 3]"),
        (3, (12, 8), "3 blocks of 4 do not make the 8 input columns of [12, 8]"),
        (1, (8, 10), "shared blocks of 4 do not make the 10 input columns of [8, 10]"),
    ],
)
def test_what_fits_is_seen_from_shapes_alone(rows, target, reason):
    assert OneTrainerOFT.misfit({"oft_R.weight": (rows, 6)}, target) == reason
