"""GLoRA against LyCORIS' forward, its two layouts told apart, its Tucker form, its cost beside a layer; what contradicts itself."""

import pytest
import torch
from judges import LAYERS, lycoris, made
from lycoris.modules.glora import GLoRAModule
from lycoris_kinds import random_glora
from support import close
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from loraloom.adapters import MAX_RANK, DoRA, GLoRA, read_adapter
from loraloom.adapters.glora import exchanged, is_old
from loraloom.errors import BadTensor, LimitExceeded, UnknownFormat


def shapes_of(adapter: GLoRA, *, old: bool = False) -> dict[str, tuple[int, ...]]:
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
    return exchanged(shapes) if old else shapes


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"use_scalar": True}, {"bypass_mode": True}], ids="".join)
def test_output_equals_lycoris(layer, options):
    module, x = made(layer)
    tensors, expected = lycoris(GLoRAModule, module, x, lora_dim=3, alpha=2, **options)
    ours = read_adapter(tensors)
    assert isinstance(ours, GLoRA)
    with torch.no_grad():
        y = module(x)
        assert close(y + ours.branch(module, x, y), expected)
        assert close(y + ours.bound(module.weight).branch(module, x, y), expected)
        assert close(ours.bound(module.weight).delta(module.weight), ours.delta(module.weight), 1e-6)
        module.weight += ours.delta(module.weight)
        assert close(module(x), expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_old_layout_is_the_new_one_with_its_names_exchanged(layer):
    """formats.md §2: (alpha/r)(W a2 a1 + b2 b1), as LyCORIS had it before."""
    module, _ = made(layer)
    new = random_glora(*module.weight.shape)
    old = exchanged(new.tensors())
    ours = read_adapter(old)
    assert all(torch.equal(tensor, ours.tensors()[suffix]) for suffix, tensor in new.tensors().items())
    if module.weight.ndim == 2:
        a, b = old["a2.weight"] @ old["a1.weight"], old["b2.weight"] @ old["b1.weight"]
        assert close(ours.delta(module.weight), (module.weight @ a + b) * 2 / 3, 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", LAYERS)
def test_half_precision_is_a_rounding_of_float32(layer, dtype):
    """8 or 11 bits of every value: within 2 % or 0.5 % of the largest output."""
    module, x = made(layer)
    tensors, _ = lycoris(GLoRAModule, module, x, lora_dim=3, alpha=2)
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


def test_tucker_equals_the_written_out_sum():
    """delta = (alpha/r)(W a1 a2 + Σ_mn b1[o,m] bm[m,n,..] b2[n,i])."""
    adapter, weight = random_glora(8, 12, 3, 3, tucker=True), torch.randn(8, 12, 3, 3)
    a = (adapter.a1.flatten(1) @ adapter.a2.flatten(1)).double()
    expected = torch.einsum("oihw,ij->ojhw", weight.double(), a)
    for m in range(3):
        for n in range(3):
            expected += torch.einsum(
                "o,hw,i->oihw", adapter.b1[:, m, 0, 0].double(), adapter.bm[m, n].double(), adapter.b2[n, :, 0, 0].double()
            )
    assert close(adapter.delta(weight), expected * 2 / 3, 1e-6)


def test_lycoris_cannot_make_its_tucker_glora():
    """A known error of LyCORIS 4.1: it asks for a kernel that is 1×1 and is not."""
    for kernel in (1, 3):
        judge = GLoRAModule("name", nn.Conv2d(12, 8, kernel), 1.0, lora_dim=3, alpha=2, use_tucker=True)
        assert not judge.tucker
        assert "bm.weight" not in judge.custom_state_dict()


def test_lycoris_does_not_say_that_a_glora_was_trained_with_rs_lora():
    """A known trap of LyCORIS 4.1: its forward multiplies by alpha/√r, its file has alpha as given."""
    module, x = made("linear")
    tensors, expected = lycoris(GLoRAModule, module, x, lora_dim=4, alpha=2, rs_lora=True)
    assert tensors["alpha"] == 2
    known = read_adapter(tensors | {"scale": torch.tensor(2 / 4**0.5)})
    with torch.no_grad():
        y = module(x)
        assert not close(y + read_adapter(tensors).branch(module, x, y), expected, 0.01)
        assert close(y + known.branch(module, x, y), expected)


def test_the_difference_of_lycoris_bypass_has_the_bias_of_the_base_in_it():
    """A known error of LyCORIS 4.1: `bypass_forward_diff` sends A(x) through the whole layer, its bias too; its forward does not."""
    module, x = made("linear")
    judge = GLoRAModule("name", module, 1.0, lora_dim=3, alpha=2)
    with torch.no_grad():
        for parameter in judge.parameters():
            parameter.copy_(torch.randn_like(parameter))
        ours = read_adapter({suffix: tensor.detach() for suffix, tensor in judge.custom_state_dict().items()})
        assert close(ours.branch(module, x, module(x)) + module.bias, judge.bypass_forward_diff(x))


@pytest.mark.parametrize("rank", [1, 3, 8, 11])
@pytest.mark.parametrize("old", [False, True])
def test_a_square_layer_is_settled_by_its_width(rank, old):
    """Every rank but the width itself: at 8 both layouts have the same shapes, and the file's other modules say which."""
    adapter = random_glora(8, 8, rank=rank)
    tensors = exchanged(adapter.tensors()) if old else adapter.tensors()
    file = [shapes_of(random_glora(8, 12), old=old)]
    again = read_adapter(tensors, (8, 8), file)
    assert all(torch.equal(tensor, again.tensors()[suffix]) for suffix, tensor in adapter.tensors().items())
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in tensors.items()}
    assert GLoRA.misfit(shapes, (8, 8)) is None
    assert (GLoRA.misfit(shapes, (9, 9)) is None) is False


@pytest.mark.parametrize("old", [False, True])
def test_a_square_layer_inside_a_wrapper_is_settled_too(old):
    adapter = DoRA.of(random_glora(8, 8), magnitude=torch.ones(8, 1))
    again = read_adapter(exchanged(adapter.tensors()) if old else adapter.tensors(), (8, 8))
    assert all(torch.equal(tensor, again.tensors()[suffix]) for suffix, tensor in adapter.tensors().items())


@pytest.mark.parametrize("old", [False, True])
def test_a_file_has_one_layout(old):
    wide, square, own = random_glora(8, 12), random_glora(8, 8), random_glora(8, 8, rank=8)
    assert is_old([shapes_of(wide, old=old)]) == old
    assert is_old([shapes_of(random_glora(8, 12, 3, 3), old=old), {"lora_down.weight": (4, 8)}]) == old
    assert is_old([shapes_of(square, old=old)]) == old  # the rank is the smaller side
    assert is_old([shapes_of(wide, old=old), *[shapes_of(square, old=not old)] * 3]) == old  # what is certain counts first
    assert not is_old([shapes_of(own, old=old)])
    assert not is_old([])


def test_a_tucker_file_tells_its_layout_by_its_core():
    adapter = random_glora(8, 8, 3, 3, tucker=True)
    again = read_adapter(adapter.tensors(), (8, 8, 3, 3))
    assert again.delta(torch.zeros(8, 8, 3, 3)).equal(adapter.delta(torch.zeros(8, 8, 3, 3)))


def test_the_bound_branch_costs_two_thin_products():
    """r·in + r·out for each half, once W a1 is there."""
    layer, x = nn.Linear(320, 640), torch.randn(7, 320)
    adapter = random_glora(640, 320, rank=4).bound(layer.weight.detach())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        adapter.branch(layer, x, torch.zeros(()))
    assert counter.get_total_flops() // 2 == 7 * 2 * 4 * (320 + 640)


def test_factors_and_strength_are_those_of_one_weight():
    adapter = random_glora(8, 12)
    assert GLoRA.reads_weight
    assert adapter.factors((8, 12)) is None
    assert adapter.thin((8, 12)) is None
    assert adapter.scaling() == (3, 2 / 3)


def test_cut_keeps_the_first_ranks_of_both_halves_and_the_scale():
    weight = torch.randn(8, 12, 3, 3)
    for tucker in (False, True):
        adapter, kept = (random_glora(8, 12, 3, 3, tucker=tucker) for _ in range(2))
        kept.a2[2:].zero_()
        kept.b2[2:].zero_()
        kept.b1[:, 2:].zero_()
        assert close(adapter.cut(2).delta(weight), kept.delta(weight), 1e-6)
        assert adapter.cut(3) is adapter


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"a1.weight": (12, 4)}, BadTensor),
        ({"a2.weight": (3, 13)}, BadTensor),
        ({"b1.weight": (8, 4)}, BadTensor),
        ({"b2.weight": (3, 13)}, BadTensor),
        ({"a1.weight": (12,)}, BadTensor),
        ({"b1.weight": ()}, BadTensor),
        ({"b1.weight": (8, 3, 3, 3)}, BadTensor),
        ({"bm.weight": (3, 3)}, BadTensor),
        ({"bm.weight": (3, 4, 3, 3)}, BadTensor),
        ({"bm.weight": (3, 3, 3, 3), "b2.weight": (3, 12, 3, 3)}, BadTensor),
        ({"a1.weight": (12, 0), "a2.weight": (0, 12), "b1.weight": (8, 0), "b2.weight": (0, 12)}, BadTensor),
        (
            {
                "a1.weight": (12, MAX_RANK + 1),
                "a2.weight": (MAX_RANK + 1, 12),
                "b1.weight": (8, MAX_RANK + 1),
                "b2.weight": (MAX_RANK + 1, 12),
            },
            LimitExceeded,
        ),
        ({"alpha": (2,)}, BadTensor),
        ({"c1.weight": (3, 3)}, UnknownFormat),
    ],
    ids=str,
)
@pytest.mark.parametrize("old", [False, True])
def test_shapes_that_contradict_one_another_are_refused(changes, error, old):
    shapes = shapes_of(random_glora(8, 12)) | changes
    with pytest.raises(error):
        read_adapter({suffix: torch.zeros(shape) for suffix, shape in (exchanged(shapes) if old else shapes).items()})


@pytest.mark.parametrize("target", [(8, 13), (9, 12), (8, 12, 3, 3), (8, 12, 1, 1), (12, 8), (96,), (8, 12)])
def test_a_delta_of_another_shape_is_seen_from_shapes_alone(target):
    fits = target in ((8, 12), (8, 12, 1, 1))
    assert all((GLoRA.misfit(shapes_of(random_glora(8, 12), old=old), target) is None) == fits for old in (False, True))


def test_a_fresh_one_has_the_tensors_that_lycoris_makes():
    for layer in LAYERS:
        module, _ = made(layer)
        fresh = GLoRA.init(module.weight, rank=3, alpha=2).tensors()
        judge = GLoRAModule("name", module, 1.0, lora_dim=3, alpha=2).custom_state_dict()
        assert {suffix: tensor.shape for suffix, tensor in fresh.items()} == {suffix: tensor.shape for suffix, tensor in judge.items()}
        assert {suffix for suffix, tensor in fresh.items() if tensor.any()} == {suffix for suffix, tensor in judge.items() if tensor.any()}
