"""The same jobs done by others, in the same process on the same pipeline: PEFT through diffusers, LyCORIS, and the merges of kohya and
SD.Next re-enacted."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from loraloom.adapters import LoRA
from loraloom.bases import Base
from loraloom.engine.live import live_modules, weight_of
from loraloom.lorafile import LoraFile

Touched = Mapping[str, tuple[nn.Module, LoRA]]  # by target: the live module, and what a file has for it


def silence() -> None:
    """PEFT loads into a text encoder with pages of warnings, which take time too."""
    for name in ("transformers", "diffusers", "peft", "LyCORIS"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Peft:
    """diffusers' LoRA methods on one pipeline."""

    def __init__(self, pipeline: Any, text_encoders: tuple[str, ...]) -> None:
        self._pipeline, self._parts = pipeline, ["unet", *text_encoders]

    def load(self, path: Path) -> None:
        """The file attached under its stem."""
        self._pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=path.stem, local_files_only=True)

    def use(self, name: str, strength: float) -> None:
        self._pipeline.set_adapters([name], [strength])

    def fuse(self, name: str) -> None:
        self._pipeline.fuse_lora(components=self._parts, adapter_names=[name])

    def unfuse(self) -> None:
        self._pipeline.unfuse_lora(components=self._parts)

    def unload(self) -> None:
        self._pipeline.unload_lora_weights()

    def count(self) -> int:
        """Modules that carry a PEFT layer."""
        return sum(hasattr(module, "base_layer") for part in self._parts for module in getattr(self._pipeline, part).modules())


def touched(pipeline: Any, file: LoraFile, base: Base) -> Touched:
    """The live modules of a network of LoRAs."""
    modules = live_modules(pipeline, base)
    return {str(target): (modules[target], adapter) for target, adapter in file.adapters.items() if isinstance(adapter, LoRA)}


def bare_loop(path: Path, modules: Touched, strength: float) -> None:
    """The least that merging a file can be: every byte read, every weight += up @ down, nothing kept, checked or reported.

    The names are resolved beforehand. Half precision is multiplied in float32, as a CPU needs it.
    """
    load_file(path)
    with torch.no_grad():
        for layer, adapter in modules.values():
            weight = weight_of(layer)
            up, down = adapter.up.flatten(1).to(weight.device).float(), adapter.down.flatten(1).to(weight.device).float()
            scale = strength * adapter.multiplier
            weight.add_((up @ down).view(weight.shape), alpha=scale)


def kohya_loop(path: Path, modules: Touched, strength: float) -> None:
    """sd-scripts' `LoRAInfModule.merge_to` (networks/lora.py), name look-up left out: a state dict read and loaded for each module."""
    load_file(path)
    for layer, adapter in modules.values():
        state = layer.state_dict()
        weight = state["weight"]
        up, down = adapter.up.to(weight.device).float(), adapter.down.to(weight.device).float()
        product = (up.flatten(1) @ down.flatten(1)).view(weight.shape)
        state["weight"] = (weight + strength * product * adapter.multiplier).to(weight.dtype)
        layer.load_state_dict(state)


def sdnext_loop(path: Path, modules: Touched, strength: float) -> None:
    """SD.Next's `network_calc_weights` and `network_apply_weights` (modules/lora/lora_apply.py), name look-up left out: a backup of
    each weight, the product, and a new parameter that is their sum."""
    load_file(path)
    for layer, adapter in modules.values():
        weight = weight_of(layer)
        backup = weight.detach().clone()
        up, down = adapter.up.to(weight.device, weight.dtype), adapter.down.to(weight.device, weight.dtype)
        product = (up.flatten(1) @ down.flatten(1)).view(weight.shape) * (strength * adapter.multiplier)
        layer.weight = nn.Parameter(backup + product, requires_grad=False)
        layer.__dict__["_backup"] = backup


def sdnext_undo(modules: Touched, before: Sequence[Tensor]) -> None:
    """The parameters that the loop replaced, back where they were, so that the next job finds the base as it was opened."""
    for (layer, _), parameter in zip(modules.values(), before, strict=True):
        layer.weight = parameter  # the very object
        del layer.__dict__["_backup"]


def lycoris_merge(path: Path, pipeline: Any, strength: float) -> int:
    """LyCORIS' own loader and merge for kohya's files; the modules that it changed. Its names want the `text_model.` that
    transformers 5 dropped."""
    from lycoris.config import PRESET
    from lycoris.kohya import LycorisNetworkKohya, create_network_from_weights
    from lycoris.wrapper import LycorisNetwork

    LycorisNetworkKohya.apply_preset(PRESET["attn-mlp"])  # its default names the time embedding twice and stops there (4.1)

    text = nn.Module()
    text.text_model = pipeline.text_encoder
    network, _ = create_network_from_weights(1.0, str(path), None, text, pipeline.unet)
    network.loras = [*network.text_encoder_loras, *network.unet_loras]
    LycorisNetwork.merge_to(network, strength)
    return len(network.loras)


class Saved:
    """The weights that a network touches, in their checkpoint: the base brought back between rounds, untimed."""

    def __init__(self, folder: Path, modules: Touched) -> None:
        self._folder, self._modules = folder, modules

    def restore(self) -> None:
        files = {path.parent.name: path for path in self._folder.glob("*/*.safetensors")}
        for component in {name.split(".")[0] for name in self._modules}:
            with safe_open(files[component], framework="pt") as tensors, torch.no_grad():
                names = set(tensors.keys())
                for target, (layer, _) in self._modules.items():
                    if target.startswith(f"{component}."):
                        name = f"{target.removeprefix(f'{component}.')}.weight"
                        name = name if name in names else name.removeprefix("text_model.")
                        weight_of(layer).copy_(tensors.get_tensor(name))


def copies(modules: Touched) -> list[Tensor]:
    """A second copy of the touched weights: the floor of a removal, which the engine does without."""
    return [weight_of(layer).detach().clone() for layer, _ in modules.values()]


def copy_back(modules: Touched, kept: list[Tensor]) -> None:
    with torch.no_grad():
        for (layer, _), copy in zip(modules.values(), kept, strict=True):
            weight_of(layer).copy_(copy)
