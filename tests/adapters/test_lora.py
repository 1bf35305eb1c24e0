"""LoRA against its formula and against PEFT's forward; every way in which a file can contradict itself."""

import peft
import pytest
import torch
from support import close, random_lora
from torch import nn

from loraloom.adapters import MAX_RANK, LoRA, read_adapter
from loraloom.errors import BadTensor, FileError, LimitExceeded, UnknownFormat

LAYERS = {
    "linear": lambda: nn.Linear(12, 8),
    "1x1": lambda: nn.Conv2d(12, 8, 1),
    "3x3 stride": lambda: nn.Conv2d(12, 8, 3, stride=2, padding=1),
}  # no dilation: PEFT 0.21 leaves it out of its own branch and fails; the merge law in contract/ holds it


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"lora_bias": True}], ids=["plain", "rslora", "bias"])
def test_output_equals_peft(layer, options):
    """PEFT's own module with random weights; tolerance 1e-5 of the largest output, float32."""
    torch.manual_seed(0)
    base = LAYERS[layer]()
    model = peft.get_peft_model(nn.Sequential(base), peft.LoraConfig(r=4, lora_alpha=6, target_modules=["0"], **options))
    wrapped = model.base_model.model[0]
    for parameter in (*wrapped.lora_A.parameters(), *wrapped.lora_B.parameters()):
        nn.init.normal_(parameter)
    alpha = 6 * 2 if "use_rslora" in options else 6  # alpha/√r is alpha·√r over r; r is 4
    bias = wrapped.lora_B.default.bias
    ours = LoRA(
        down=wrapped.lora_A.default.weight.detach(),
        up=wrapped.lora_B.default.weight.detach(),
        alpha=torch.tensor(float(alpha)),
        bias=None if bias is None else bias.detach() * (alpha / 4),
    )
    x = torch.randn((2, 12, 7, 6) if isinstance(base, nn.Conv2d) else (3, 12))
    with torch.no_grad():
        y = base(x)
        assert close(y + ours.branch(base, x, y), model(x))
        assert close(ours.delta(base.weight), wrapped.get_delta_weight("default"))


def test_tucker_equals_the_written_out_sum():
    """delta[i,j,h,w] = (alpha/r) Σ_mn up[i,m] mid[m,n,h,w] down[n,j]: LyCORIS' rebuild, arXiv:2309.14859."""
    adapter = random_lora(8, 12, 3, 3, rank=4, alpha=2, tucker=True)
    up, down = adapter.up[:, :, 0, 0].double(), adapter.down[:, :, 0, 0].double()
    expected = torch.zeros(8, 12, 3, 3, dtype=torch.float64)
    for m in range(4):
        for n in range(4):
            expected += torch.einsum("i,hw,j->ijhw", up[:, m], adapter.mid[m, n].double(), down[n])
    assert close(adapter.delta(torch.zeros(8, 12, 3, 3)), expected * 2 / 4, 1e-6)


def test_locon_equals_the_written_out_sum():
    adapter = random_lora(8, 12, 3, 3, rank=4, alpha=2)
    expected = torch.einsum("ir,rjhw->ijhw", adapter.up[:, :, 0, 0].double(), adapter.down.double()) * 2 / 4
    assert close(adapter.delta(torch.zeros(8, 12, 3, 3)), expected, 1e-6)


@pytest.mark.parametrize(
    ("extra", "multiplier"),
    [
        ({}, 1),
        ({"alpha": torch.tensor(2, dtype=torch.int64)}, 0.5),
        ({"alpha": torch.tensor([2.0], dtype=torch.float16)}, 0.5),
        ({"alpha": torch.tensor(0.0)}, 0),
        ({"alpha": torch.tensor(-2.0)}, -0.5),
        ({"alpha": torch.tensor(2.0), "scale": torch.tensor(3.0)}, 3),
        ({"alpha": torch.tensor(2.0), "scalar": torch.tensor([[5.0]])}, 2.5),
        ({"scalar": torch.tensor(5)}, 5),
    ],
    ids=str,
)
def test_the_scale_is_what_the_file_says(extra, multiplier):
    """formats.md §2: no alpha is scale 1, `scale` replaces alpha/r, `scalar` is one more factor."""
    plain = random_lora(8, 12, alpha=None)
    adapter = read_adapter(plain.tensors() | extra)
    assert adapter.multiplier == multiplier
    assert close(adapter.delta(torch.zeros(8, 12)), plain.up @ plain.down * multiplier, 1e-6)
    numbers = [adapter.tensors()[suffix] for suffix in extra]
    assert all(number.dtype == torch.float32 and number.ndim == 0 for number in numbers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_delta_is_computed_in_float32_from_what_is_stored(dtype):
    adapter = random_lora(8, 12).map(lambda tensor: tensor.to(dtype) if tensor.ndim else tensor)
    expected = adapter.up.double() @ adapter.down.double() * 3 / 4
    assert close(adapter.delta(torch.zeros(8, 12, dtype=torch.float16)), expected, 1e-6)


@pytest.mark.parametrize(("file", "target"), [((8, 12), (8, 12, 1, 1)), ((8, 12, 1, 1), (8, 12))])
def test_a_linear_file_fits_a_1x1_convolution_and_the_reverse(file, target):
    adapter = random_lora(*file)
    layer, x = (nn.Conv2d(12, 8, 1), torch.randn(2, 12, 4, 4)) if len(target) == 4 else (nn.Linear(12, 8), torch.randn(3, 12))
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
    assert LoRA.delta_shape(shapes, target) == target
    with torch.no_grad():
        y = layer(x)
        beside = y + adapter.branch(layer, x, y)
        layer.weight += adapter.delta(layer.weight)
        assert close(beside, layer(x))


@pytest.mark.parametrize("target", [(8, 13), (9, 12), (8, 12, 3, 3), (8, 12, 1), (96,), (12, 8)])
def test_a_delta_of_another_shape_is_seen_from_shapes_alone(target):
    shapes = {"lora_down.weight": (4, 12), "lora_up.weight": (8, 4)}
    assert (LoRA.delta_shape(shapes, target) == target) == (target == (8, 12, 1))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"lora_up.weight": (8, 5)}, BadTensor),
        ({"lora_up.weight": (8,)}, BadTensor),
        ({"lora_up.weight": ()}, BadTensor),
        ({"lora_up.weight": (8, 4, 3, 3)}, BadTensor),
        ({"lora_down.weight": (4,)}, BadTensor),
        ({"lora_down.weight": ()}, BadTensor),
        ({"lora_down.weight": (0, 12), "lora_up.weight": (8, 0)}, BadTensor),
        ({"lora_down.weight": (MAX_RANK + 1, 12), "lora_up.weight": (8, MAX_RANK + 1)}, LimitExceeded),
        ({"lora_mid.weight": (4, 4)}, BadTensor),
        ({"lora_mid.weight": (4, 5, 3, 3)}, BadTensor),
        ({"lora_mid.weight": (5, 4, 3, 3)}, BadTensor),
        ({"lora_mid.weight": (4, 4, 3, 3), "lora_down.weight": (4, 12, 3, 3)}, BadTensor),
        ({"alpha": (4,)}, BadTensor),
        ({"alpha": (0,)}, BadTensor),
        ({"scale": (1, 2)}, BadTensor),
        ({"diff_b": (1,)}, BadTensor),
        ({"diff_b": (8, 1)}, BadTensor),
        ({"lora_extra.weight": (8, 1)}, UnknownFormat),
    ],
    ids=str,
)
def test_shapes_that_contradict_one_another_are_refused(changes, error):
    shapes = {"lora_down.weight": (4, 12), "lora_up.weight": (8, 4)} | changes
    with pytest.raises(error):
        read_adapter({suffix: torch.zeros(shape) for suffix, shape in shapes.items()})
    assert issubclass(error, FileError)


def test_a_fresh_down_is_drawn_as_torch_draws_a_linear():
    """Uniform in ±1/√(in·kernel): torch.nn.Linear and Conv2d, kaiming_uniform with a = √5."""
    for shape in ((64, 300), (64, 30, 3, 3)):
        down = LoRA.init(torch.zeros(shape), rank=32, alpha=1).down
        bound = 1 / (down[0].numel()) ** 0.5
        assert 0.99 * bound < float(down.abs().max()) <= bound
        assert abs(float(down.mean())) < 0.03 * bound
