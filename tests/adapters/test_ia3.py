"""IA3 against LyCORIS' forward and PEFT's where that is the same; the side that a flag and a length name; what contradicts itself."""

import peft
import pytest
import torch
from agree import agree, rounded
from judges import LAYERS, lycoris, made, through_peft
from lycoris.modules import get_module, make_module
from lycoris.modules.ia3 import IA3Module
from support import close, random_ia3

from loraloom.adapters import IA3, read_adapter
from loraloom.errors import BadTensor, ShapeMismatch, UnknownFormat


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("on_input", [True, False], ids=["input", "output"])
def test_output_equals_lycoris(layer, on_input):
    module, x = made(layer)
    tensors, expected = lycoris(IA3Module, module, x, train_on_input=on_input)
    ours = read_adapter(tensors)
    assert isinstance(ours, IA3)
    assert agree(ours, module, x, expected)
    fresh = IA3.init(module.weight, rank=1, alpha=1, train_on_input=on_input)
    assert {suffix: tensor.shape for suffix, tensor in fresh.tensors().items()} == {name: tensor.shape for name, tensor in tensors.items()}


def test_known_error_lycoris_cannot_read_its_own_ia3():
    """`IA3Module.make_module_from_state_dict` takes one tensor and is given `weight_list`'s two."""
    module, x = made("linear")
    tensors, _ = lycoris(IA3Module, module, x)
    kind, parts = get_module({f"name.{suffix}": tensor for suffix, tensor in tensors.items()}, "name")
    assert kind is IA3Module
    with pytest.raises(TypeError, match="positional arguments"):
        make_module(kind, parts, "name", module)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("on_input", [True, False], ids=["feed-forward", "output"])
def test_output_equals_peft_but_for_the_bias(layer, on_input):
    """PEFT stores w itself, we w − 1; on the output side PEFT multiplies the layer's bias too, and LyCORIS and we do not."""
    module, x = made(layer)
    config = peft.IA3Config(target_modules=["0"], feedforward_modules=["0"] if on_input else [])
    tensors, expected, _ = through_peft(config, module, x)
    vector = tensors["ia3_l"].flatten() - 1
    ours = read_adapter({"weight": vector, "on_input": torch.tensor(int(on_input))})
    if not on_input and module.bias is not None:
        shift = vector * module.bias.detach()
        expected = expected - (shift[:, None, None] if module.weight.ndim == 4 else shift)
        assert shift.any()
    assert agree(ours, module, x, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("on_input", [True, False], ids=["input", "output"])
def test_half_precision_is_a_rounding_of_float32(layer, on_input, dtype):
    module, x = made(layer)
    assert rounded(random_ia3(*module.weight.shape, on_input=on_input, bias=True), module, x, dtype)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_flag_that_names_the_other_side_is_refused_and_never_broadcast(layer):
    module, x = made(layer)
    for length, flag, says in ((8, 1, "8 numbers for the inputs, .* has 12"), (12, 0, "12 numbers for the outputs, .* has 8")):
        ours = IA3(vector=torch.ones(length), on_input=torch.tensor(float(flag)))
        y = module(x)
        for act in (lambda: ours.delta(module.weight), lambda: ours.bound(module.weight), lambda: ours.branch(module, x, y)):  # noqa: B023
            with pytest.raises(ShapeMismatch, match=says):
                act()


@pytest.mark.parametrize(
    ("shapes", "error", "says"),
    [
        ({"weight": (8, 1), "on_input": ()}, BadTensor, r"weight \[8, 1\]"),
        ({"weight": (8, 1, 1, 1), "on_input": ()}, BadTensor, r"weight \[8, 1, 1, 1\]"),
        ({"weight": (1, 8, 3, 3), "on_input": ()}, BadTensor, r"weight \[1, 8, 3, 3\]"),
        ({"weight": (), "on_input": ()}, BadTensor, r"weight \[\]"),
        ({"weight": (0,), "on_input": ()}, BadTensor, r"weight \[0\]"),
        ({"weight": (8,), "on_input": (2,)}, BadTensor, r"on_input is one number, not \[2\]"),
        ({"weight": (8,), "on_input": (), "diff_b": (8, 1)}, BadTensor, "diff_b"),
        ({"weight": (8,)}, UnknownFormat, "weight"),
    ],
    ids=str,
)
def test_shapes_that_contradict_one_another_are_refused(shapes, error, says):
    with pytest.raises(error, match=says):
        read_adapter({suffix: torch.zeros(shape) for suffix, shape in shapes.items()})


@pytest.mark.parametrize(
    ("weight", "target", "reason"),
    [
        ((8,), (8, 12), None),
        ((12,), (8, 12), None),
        ((1, 12, 1, 1), (8, 12, 3, 3), None),
        ((1, 8, 1, 1), (8, 12), None),
        ((1,), (8, 12), "weight [1] is one number for neither the 8 outputs nor the 12 inputs"),
        ((9,), (8, 12, 3, 3), "weight [9] is one number for neither the 8 outputs nor the 12 inputs"),
    ],
)
def test_what_fits_is_seen_from_shapes_alone(weight, target, reason):
    assert IA3.misfit({"weight": weight, "on_input": ()}, target) == reason


def test_rows_of_the_output_side_are_cut_and_those_of_the_input_side_are_all():
    weight = torch.randn(8, 12)
    for on_input in (True, False):
        ours = random_ia3(8, 12, on_input=on_input)
        assert close(ours.rows(2, 7).delta(weight[2:7]), ours.delta(weight)[2:7], 1e-7)
