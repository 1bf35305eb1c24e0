"""A base on the disk is recognised by its headers: a folder as diffusers writes it, a checkpoint by its original names, or a name."""

import pytest
import torch
from safetensors.torch import save_file

from loraloom.bases import NANO, NANOXL, SD1, SDXL
from loraloom.bases.identify import identify
from loraloom.errors import BaseError, NotSafetensors


@pytest.mark.parametrize(("name", "base"), [("sdxl", SDXL), ("SDXL", SDXL), ("sd 1.X", SD1), ("nano", NANO)])
def test_a_family_is_named_in_any_case(name, base):
    assert identify(name) is base


def test_a_folder_that_diffusers_wrote_is_recognised(nano, tmp_path):
    nano.save_pretrained(tmp_path / "base", safe_serialization=True)
    assert identify(str(tmp_path / "base")) is NANO


@pytest.mark.parametrize("base", [NANO, NANOXL], ids=lambda base: base.family)
def test_a_checkpoint_is_recognised_by_its_original_names(tmp_path, base):
    layers = [layer for layer in base.layers if not layer.place.is_text]
    tensors = {f"model.diffusion_model.{layer.original}.weight": torch.zeros(layer.shape) for layer in layers}
    save_file(tensors | {"first_stage_model.x": torch.ones(1)}, tmp_path / "base.safetensors")
    assert identify(str(tmp_path / "base.safetensors")) is base
    del tensors[f"model.diffusion_model.{layers[0].original}.weight"]
    save_file(tensors, tmp_path / "base.safetensors")
    with pytest.raises(BaseError, match="has the modules of no family"):
        identify(str(tmp_path / "base.safetensors"))


@pytest.mark.parametrize("name", [lambda layer: layer.target.module, lambda layer: layer.original], ids=["diffusers", "original"])
def test_a_unet_alone_is_recognised_by_either_naming(tmp_path, name):
    tensors = {f"{name(layer)}.weight": torch.zeros(layer.shape) for layer in NANO.layers if not layer.place.is_text}
    save_file(tensors, tmp_path / "unet.safetensors")
    assert identify(str(tmp_path / "unet.safetensors")) is NANO


def test_what_is_no_base_is_an_error_that_names_the_nearest(tmp_path):
    with pytest.raises(BaseError, match='did you mean "sdxl"'):
        identify("sdlx")
    with pytest.raises(BaseError, match="has the modules of no family"):
        identify(str(tmp_path))
    (tmp_path / "x.ckpt").write_bytes(b"PK\3\4" + b"x" * 40)
    with pytest.raises(NotSafetensors, match="pickle"):
        identify(str(tmp_path / "x.ckpt"))
