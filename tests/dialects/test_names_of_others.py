"""What frameworks and savers put into names is left out and told; a module that is named twice is read once; adapters are never mixed."""

import re

import pytest
import torch
from safetensors.torch import save_file
from support import everything, network

from loraloom.bases import NANO, NANOXL
from loraloom.bases.names import changed, plain
from loraloom.catalogue.inspecting import fit, inspect
from loraloom.converting import convert
from loraloom.dialects import by_name, read
from loraloom.errors import NothingApplied, UnknownFormat

MADE = network(NANO, everything, rank=2, alpha=2)
XL = network(NANOXL, lambda layer: layer.attention, rank=2, alpha=2)


def spelled(dialect, made=MADE, base=NANO):
    """The network's tensors under a dialect's first names."""
    return {
        key: tensor.contiguous()
        for target, adapter in made.adapters.items()
        for key, tensor in by_name(dialect).write_tensors(adapter, base.by_target[target], base).items()
    }


def saved(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    return path


def deeper(word):
    """A wrapper in the middle of a dotted path."""
    return lambda key: re.sub(r"^((?:unet|text_encoder)\.(?:[a-z_]+)\.)", rf"\1{word}.", key)


AROUND = {
    "torch.compile": ("peft", lambda key: key.replace(".", "._orig_mod.", 1)),
    "torch.compile of blocks": ("peft", deeper("_orig_mod")),
    "torch.compile before all": ("peft", "_orig_mod.{}".format),
    "torch.compile, underscores": ("kohya", lambda key: re.sub(r"^(lora_(?:unet|te)_)", r"\1_orig_mod_", key)),
    "torch.compile of blocks, underscores": ("kohya", lambda key: re.sub(r"^(lora_unet_[a-z]+_)", r"\1_orig_mod_", key)),
    "LyCORIS around a compiled one": ("lycoris", lambda key: re.sub(r"^lycoris_", "lycoris__orig_mod_", key)),
    "DDP": ("peft", "module.{}".format),
    "DDP inside": ("peft", lambda key: key.replace(".", ".module.", 1)),
    "DDP, underscores": ("kohya", "module.{}".format),
    "DDP of a UNet, underscores": ("kohya", lambda key: re.sub(r"^lora_unet_", "lora_unet_module_", key)),
    "FSDP": ("peft", deeper("_fsdp_wrapped_module")),
    "checkpoints": ("peft", deeper("_checkpoint_wrapped_module")),
    "Fabric": ("peft", "_forward_module.{}".format),
    "pipeline": ("peft", "pipeline.{}".format),
    "pipe": ("peft", "pipe.{}".format),
    "PEFT inside of the component": ("peft", lambda key: key.replace(".", ".base_model.model.", 1)),
    "PEFT around the component": ("peft", "base_model.model.{}".format),
    "DDP around PEFT inside": ("peft", lambda key: "module." + key.replace(".", ".base_model.model.", 1)),
    "all at once": ("peft", lambda key: "pipeline." + deeper("_orig_mod")(key.replace(".", ".module.", 1))),
    "component twice": ("peft", lambda key: f"{key.split('.')[0]}.{key}"),
    "CompVis": ("comfyui", lambda key: key.replace("diffusion_model.", "model.diffusion_model.", 1)),
    "diffusion_model twice": ("comfyui", lambda key: key.replace("diffusion_model.", "diffusion_model.diffusion_model.", 1)),
    "a program nobody knows": ("peft", "my_trainer.student.{}".format),
    "a program nobody knows, underscores": ("kohya", "some_program.{}".format),
}


@pytest.mark.parametrize("way", AROUND)
def test_a_prefix_between_a_file_and_its_base_is_left_out_and_told(tmp_path, way):
    dialect, put = AROUND[way]
    tensors = {put(key): tensor for key, tensor in spelled(dialect).items()}
    assert tensors.keys() != spelled(dialect).keys()
    path = saved(tmp_path, tensors)
    file = read(path)
    assert (file.base, file.unknown) == ("nano", ())
    assert file.adapters.keys() == MADE.adapters.keys()
    assert all(torch.equal(adapter.down, file.adapters[target].down) for target, adapter in MADE.adapters.items() if dialect != "peft")
    for warnings in (file.warnings, inspect(path).warnings, fit(path).warnings):
        assert any("which another program put there" in text for text in warnings)
    assert fit(path).verdict == "whole"
    clean = read(convert(path, tmp_path / "clean.safetensors").path)
    assert (clean.adapters.keys(), clean.warnings) == (MADE.adapters.keys(), ())


def test_both_text_encoders_keep_their_numbers(tmp_path):
    """SDXL's have the same names, so a component that is left out would put one on the other."""
    tensors = {key.replace(".", ".base_model.model.", 1): tensor for key, tensor in spelled("peft", XL, NANOXL).items()}
    file = read(saved(tmp_path, tensors))
    assert (file.base, file.unknown, file.adapters.keys()) == ("nanoxl", (), XL.adapters.keys())
    for target, adapter in XL.adapters.items():
        weight = torch.zeros(NANOXL.by_target[target].shape)
        assert torch.allclose(file.adapters[target].delta(weight), adapter.delta(weight), atol=1e-6)


@pytest.mark.parametrize("other", ["controlnet", "vae", "reference_unet", "unet_2"])
def test_the_name_of_another_model_is_no_prefix(tmp_path, other):
    tensors = {key.replace("unet.", f"{other}.", 1): tensor for key, tensor in spelled("peft").items() if key.startswith("unet.")}
    with pytest.raises(NothingApplied):
        read(saved(tmp_path, tensors), NANO)


def with_adapter(name, key):
    return re.sub(r"\.(lora_(?:A|B|embedding_A|embedding_B))(\.weight)?$", rf".\1.{name}\2", key)


@pytest.mark.parametrize("name", ["default", "default_0", "my_style", "v1.0-final", "weight_decay", "A"])
def test_the_name_of_an_adapter_says_nothing(tmp_path, name):
    tensors = {with_adapter(name, key): tensor for key, tensor in spelled("peft").items()}
    file = read(saved(tmp_path, tensors))
    assert (file.base, file.unknown, file.adapters.keys()) == ("nano", (), MADE.adapters.keys())
    assert inspect(saved(tmp_path, tensors)).confidence == "certain"


def test_parameters_in_place_of_layers_are_read(tmp_path):
    """`lora_A` without `.weight`, with and without the adapter's name."""
    for put in (lambda key: key.removesuffix(".weight"), lambda key: with_adapter("default", key.removesuffix(".weight"))):
        file = read(saved(tmp_path, {put(key): tensor for key, tensor in spelled("peft").items()}))
        assert (file.unknown, file.adapters.keys()) == ((), MADE.adapters.keys())


@pytest.mark.parametrize(("first", "second"), [("default", "my_style"), ("", "my_style"), ("a", "b")])
@pytest.mark.parametrize("apart", [False, True], ids=["on the same modules", "on other modules"])
def test_several_adapters_in_one_file_are_refused_with_their_names(tmp_path, first, second, apart):
    names = {first: first or "one without a name", second: second}
    tensors = {}
    for number, (key, tensor) in enumerate(sorted(spelled("peft").items())):
        for name in names if not apart else [(first, second)[number // 2 % 2]]:
            tensors[with_adapter(name, key) if name else key] = tensor.clone()
    path = saved(tmp_path, tensors)
    with pytest.raises(UnknownFormat, match="holds several adapters of the") as caught:
        read(path)
    assert all(name in str(caught.value) for name in names.values())
    assert fit(path, NANO).verdict == "not"


def test_one_adapter_for_each_component_is_one_network(tmp_path):
    """diffusers numbers them: default in the UNet, default_0 in the text encoder."""
    tensors = {with_adapter("default" if key.startswith("unet.") else "default_0", key): tensor for key, tensor in spelled("peft").items()}
    assert read(saved(tmp_path, tensors)).adapters.keys() == MADE.adapters.keys()


def twice(other):
    """A text encoder under `lora_te_` and `lora_te1_`, the second times `other`."""
    own = spelled("kohya")
    return own | {key.replace("lora_te_", "lora_te1_"): tensor * other for key, tensor in own.items() if key.startswith("lora_te_")}


def test_a_text_encoder_under_both_prefixes_is_read_once(tmp_path):
    file = read(saved(tmp_path, twice(1)))
    assert (file.unknown, file.adapters.keys()) == ((), MADE.adapters.keys())


def test_of_two_different_ones_the_usual_prefix_counts_and_the_other_is_told(tmp_path):
    path = saved(tmp_path, twice(3))
    file = read(path)
    assert file.adapters.keys() == MADE.adapters.keys()
    for target, adapter in MADE.adapters.items():
        assert torch.equal(file.adapters[target].up.float(), adapter.up)
    assert {key.partition(":")[0].split("_")[1] for key in file.unknown} == {"te1"}
    assert all("holds another one" in text for text in file.unknown)


def test_halves_of_two_spellings_are_never_mixed(tmp_path):
    """An old pair that is whole beside half a new one."""
    own = spelled("peft")
    old = {key.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): tensor for key, tensor in own.items()}
    half = {key: tensor * 7 for key, tensor in own.items() if "lora_A" in key}
    file = read(saved(tmp_path, old | half), NANO)
    linear = [target for target in MADE.adapters if NANO.by_target[target].kind == "linear"]
    other = read(saved(tmp_path, old), NANO)
    assert linear
    assert all(torch.equal(file.adapters[target].down, other.adapters[target].down) for target in linear)


def test_names_into_which_nothing_is_put_stay_as_they_are():
    for dialect in ("kohya", "peft", "comfyui", "lycoris"):
        assert changed(spelled(dialect)) == {}
    for key in ("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", "bundle_emb.model.string_to_param.*", "model.layers.0.lora_A.weight"):
        assert plain(key).name == key
