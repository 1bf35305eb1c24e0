"""What is written is stored so that other programs read it as it is meant: alpha always there, scales where everybody looks for them,
a rotation that is free free for all, and names that every version finds."""

import copy
import json

import peft
import pytest
import torch
from cases import CASES
from judging import attached, outputs
from safetensors.torch import load_file, save_file
from support import close, everything, network, random_lora, random_oft
from test_matrix import of_type
from torch import nn

from loraloom.adapters import DoRA, Wrapper
from loraloom.bases import NANO, NANOXL, SD1
from loraloom.bases.nano.model import load
from loraloom.dialects import read, write
from loraloom.dialects.folder import CONFIG, WEIGHTS
from loraloom.dialects.quirks import FREE
from loraloom.errors import DialectCannotHold
from loraloom.lorafile import LoraFile

LAYER = next(layer for layer in NANO.layers if layer.attention and not layer.place.is_text)
SD1_LAYER = next(layer for layer in SD1.layers if layer.attention and not layer.place.is_text)
CONV = next(layer for layer in NANO.layers if layer.shape[2:] == (3, 3))
NATIVE = ("kohya", "lycoris", "comfyui")  # dialects with our own suffixes
UNIT = 2**-11  # the unit roundoff of float16


@pytest.fixture(scope="module")
def clean():
    return load()


def one(adapter, path, dialect, layer=LAYER, dtype=torch.float32):
    return write(LoraFile({layer.target: adapter}, {}, "nano"), path, dialect, dtype=dtype)


@pytest.mark.parametrize("dialect", NATIVE)
def test_every_type_that_has_an_alpha_is_written_with_one_and_without_other_numbers(tmp_path, dialect):
    """LyCORIS 4.1 cannot open a network without alpha; ComfyUI and InvokeAI know neither `scale` nor `scalar`."""
    seen = set()
    for name in CASES:
        adapters = of_type(name).adapters
        target, adapter = next(iter(adapters.items()))
        kind = adapter.inner if isinstance(adapter, Wrapper) else adapter
        if "alpha" not in type(kind).suffixes() or "diag" in name:
            continue
        bare = adapter.with_tensors(dict.fromkeys(("alpha",)))
        try:
            path = write(LoraFile({target: bare}, {}, "nano"), tmp_path / "x.safetensors", dialect, dtype=torch.float32)
        except DialectCannotHold:
            continue
        seen.add(kind.name)
        tensors = load_file(path)
        assert [tensor.ndim for key, tensor in tensors.items() if key.endswith(".alpha")] == [0], name
        assert not [key for key in tensors if key.endswith((".scale", ".scalar"))]
        weight = torch.randn(NANO.by_target[target].shape)
        assert torch.equal(read(path).adapters[target].delta(weight), bare.delta(weight)), name
    assert {"lora", "loha", "lokr", "glora", "oft", "boft"} <= seen | ({"glora"} if dialect == "comfyui" else set())


@pytest.mark.parametrize("numbers", [{"scale": 0.3}, {"scalar": 2.5}, {"scale": 0.3, "scalar": 2.5, "alpha": None}], ids=str)
@pytest.mark.parametrize("dialect", NATIVE)
def test_a_scale_and_a_scalar_become_alpha(tmp_path, dialect, numbers):
    given = {name: None if value is None else torch.tensor(value) for name, value in numbers.items()}
    adapter = random_lora(*LAYER.shape).with_tensors(given)
    path = one(adapter, tmp_path / "x.safetensors", dialect)
    assert {key.rpartition(".")[2] for key in load_file(path)} == {"weight", "alpha"}
    zero = torch.zeros(LAYER.shape)
    assert close(read(path).adapters[LAYER.target].delta(zero), adapter.delta(zero), 1e-6)


@pytest.mark.parametrize("alpha", [None, 0.0, -1.0], ids=str)
@pytest.mark.parametrize("dialect", NATIVE)
def test_a_free_rotation_is_free_for_tools_that_clamp_and_free_again_when_it_is_read(tmp_path, dialect, alpha):
    """sd-scripts and SD.Next clamp to alpha times the outputs whatever alpha is, so to nothing where it is 0."""
    adapter = random_oft(*LAYER.shape, alpha=alpha)
    path = one(adapter, tmp_path / "x.safetensors", dialect, dtype=torch.float16)
    (written,) = (float(tensor) for key, tensor in load_file(path).items() if key.endswith(".alpha"))
    longest = float(torch.linalg.vector_norm(adapter.blocks - adapter.blocks.mT))
    assert longest < written == FREE
    assert float(torch.tensor(written).half()) == float(torch.tensor(written).bfloat16()) == written  # also where a tool casts it
    found = read(path).adapters[LAYER.target]
    assert float(found.alpha) == 0
    weight = torch.randn(LAYER.shape)
    assert torch.equal(found.delta(weight), adapter.map(lambda tensor: tensor.half()).delta(weight))


def test_a_constraint_stays_what_it_is(tmp_path):
    adapter = random_oft(*LAYER.shape, alpha=0.05)
    assert torch.equal(read(one(adapter, tmp_path / "x.safetensors", "kohya")).adapters[LAYER.target].alpha, adapter.alpha)


@pytest.mark.parametrize("layer", [LAYER, CONV], ids=["linear", "convolution"])
@pytest.mark.parametrize("dialect", NATIVE)
def test_a_flat_magnitude_gets_the_dimensions_of_the_weight(tmp_path, dialect, layer):
    adapter = DoRA.of(random_lora(*layer.shape), magnitude=1 + torch.rand(layer.shape[0]))
    tensors = load_file(one(adapter, tmp_path / "x.safetensors", dialect, layer))
    (vector,) = (tensor for key, tensor in tensors.items() if key.endswith(".dora_scale"))
    assert vector.shape == (layer.shape[0], *[1] * (len(layer.shape) - 1))
    assert torch.equal(vector.flatten(), adapter.magnitude)


@pytest.mark.parametrize("options", [{"alpha": 1.0, "rank": 16}, {"alpha": 5.0, "rank": 3}, {"alpha": None}], ids=str)
def test_a_file_of_peft_means_the_same_to_who_reads_its_config_and_to_who_does_not(tmp_path, options):
    made = network(NANO, everything, **options)
    path = write(made, tmp_path / "x.safetensors", "peft", dtype=torch.float32)
    save_file(load_file(path), tmp_path / "bare.safetensors")
    for found in (read(path), read(tmp_path / "bare.safetensors", NANO)):
        for target, adapter in made.adapters.items():
            zero = torch.zeros(NANO.by_target[target].shape)
            assert close(found.adapters[target].delta(zero), adapter.delta(zero), 1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.3, 1e-3], ids=str)
def test_the_scale_in_the_factors_costs_no_more_than_the_rounding_of_two_factors(tmp_path, alpha):
    """Each factor is rounded once, by at most the unit roundoff of float16 of each value while that is a normal number, and the errors of
    two factors add up. 2e-3 is what up holds after a usual training: alpha/r of it alone would be below the normal numbers."""
    generator = torch.Generator().manual_seed(3)
    adapter = random_lora(*SD1_LAYER.shape, rank=32, alpha=alpha)
    adapter = adapter.with_tensors({"up": torch.randn(adapter.up.shape, generator=generator) * 2e-3})
    path = write(LoraFile({SD1_LAYER.target: adapter}, {}, "sd1"), tmp_path / "x.safetensors", "peft")
    zero = torch.zeros(SD1_LAYER.shape)
    delta = adapter.delta(zero)
    assert float((read(path).adapters[SD1_LAYER.target].delta(zero) - delta).norm() / delta.norm()) <= 2 * UNIT


def test_doras_of_both_components_act_in_diffusers(clean, tmp_path):
    """diffusers 0.42 with transformers 5 drops a text encoder's magnitudes unless their names end in `.weight`."""
    adapters = {}
    for target, adapter in network(NANO).adapters.items():
        layer = NANO.by_target[target]
        norms = weight_of(clean, layer).flatten(1).norm(dim=1)
        magnitude = (norms * (1 + torch.rand(len(norms)))).reshape(-1, *[1] * (len(layer.shape) - 1))
        adapters[target] = DoRA.of(adapter, magnitude=magnitude)
    path = write(LoraFile(adapters, {}, "nano"), tmp_path / "x.safetensors", "peft", dtype=torch.float32)
    judge = copy.deepcopy(clean)
    judge.load_lora_weights(path)
    theirs, ours, before = outputs(judge), attached(clean, read(path)), outputs(clean)
    assert all(close(found, wanted) for found, wanted in zip(ours, theirs, strict=True))
    plain = attached(clean, LoraFile({target: adapter.inner for target, adapter in adapters.items()}, {}, "nano"))
    assert all(not close(*pair, 1e-2) for others in (plain, before) for pair in zip(others, ours, strict=True))


def weight_of(pipeline, layer) -> torch.Tensor:
    module = layer.target.module if layer.target.component == "unet" else layer.target.module.removeprefix("text_model.")
    return pipeline.components[layer.target.component].get_submodule(module).weight.detach()


class OfTransformers4(nn.Module):
    """A CLIPTextModel under the names that it had before transformers 5."""

    def __init__(self, encoder) -> None:
        super().__init__()
        self.text_model = encoder


@pytest.mark.parametrize("wrap", [OfTransformers4, lambda encoder: encoder], ids=["transformers 4", "transformers 5"])
def test_a_folder_of_peft_is_found_under_the_names_of_both_versions(clean, tmp_path, wrap):
    small, large = (network(NANO, text_only, rank=rank, alpha=alpha, seed=rank) for rank, alpha in ((3, 2), (5, 7)))
    adapters = {target: (small if index % 3 else large).adapters[target] for index, target in enumerate(small.adapters)}
    path = write(LoraFile(adapters, {}, "nano"), tmp_path / "x", "peft-folder", dtype=torch.float32)
    judge = copy.deepcopy(clean)
    peft.PeftModel.from_pretrained(wrap(judge.text_encoder), path).merge_and_unload()
    again = read(path)
    assert (again.unknown, again.adapters.keys()) == ((), adapters.keys())
    assert close(outputs(judge)[0], attached(clean, again)[0])
    assert not close(outputs(judge)[0], outputs(clean)[0], 1e-2)


def text_only(layer) -> bool:
    return layer.attention and layer.place.is_text


def test_a_copy_that_differs_is_told(tmp_path):
    path = write(network(NANO, text_only), tmp_path / "x", "peft-folder", dtype=torch.float32)
    tensors = load_file(path / WEIGHTS)
    old = next(key for key in tensors if ".text_model." in key)
    save_file(tensors | {old: tensors[old] + 1}, path / WEIGHTS)
    new = old.replace("text_model.", "")
    assert read(path).unknown == (f"{old}: names the same tensor as {new} and holds another one; {new} is used",)


def test_text_encoders_with_a_projection_have_one_name_in_every_version(tmp_path):
    made = network(NANOXL, lambda layer: layer.attention and layer.target.component == "text_encoder_2")
    path = write(made, tmp_path / "x", "peft-folder")
    keys = load_file(path / WEIGHTS).keys()
    assert all(".text_model." in key for key in keys)
    assert len(keys) == 2 * len(made.adapters)
    assert json.loads((path / CONFIG).read_text())["auto_mapping"]["base_model_class"] == "CLIPTextModelWithProjection"
