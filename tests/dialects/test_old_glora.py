"""GLoRA files of the old layout, square layers included: as LyCORIS before 3.0 wrote them."""

import pytest
import torch
from lycoris_kinds import random_glora
from safetensors.torch import save_file
from support import close

import loraloom
from loraloom.adapters import GLoRA
from loraloom.adapters.glora import exchanged
from loraloom.bases import NANO

LAYERS = [layer for layer in NANO.layers if layer.attention and layer.target.component == "unet"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("ranks", ["small", "as wide as the layer", "wider than the layer"])
def test_every_layer_is_read_in_the_layout_of_its_file(tmp_path, old, ranks):
    """Up to ranks that make a square layer's tensors the same shapes in both layouts: the other modules say which it is."""
    adapters, tensors = {}, {}
    for index, layer in enumerate(LAYERS):
        out, columns = layer.shape[:2]
        rank = {"small": 3, "as wide as the layer": columns, "wider than the layer": columns + 5}[ranks] if out == columns else 3
        adapters[layer.target] = random_glora(*layer.shape, rank=rank, seed=index)
        own = adapters[layer.target].tensors()
        prefix = f"lora_unet_{layer.target.module.replace('.', '_')}"
        tensors |= {f"{prefix}.{suffix}": tensor for suffix, tensor in (exchanged(own) if old else own).items()}
    assert any(layer.shape[0] == layer.shape[1] for layer in LAYERS)
    save_file(tensors, tmp_path / "x.safetensors")
    file = loraloom.read(tmp_path / "x.safetensors", NANO)
    assert not file.unknown
    assert file.adapters.keys() == adapters.keys()
    for layer in LAYERS:
        found, weight = file.adapters[layer.target], torch.randn(layer.shape)
        assert isinstance(found, GLoRA)
        assert close(found.delta(weight), adapters[layer.target].delta(weight), 1e-6)
