"""Finding a base's modules in a live pipeline: which family it is, and where each target stands today."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loraloom.bases import BASES, Base, Target
from loraloom.errors import NotSupported
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch.nn import Module

_DENOISERS = ("unet", "transformer")
_LIKENESS = 0.95  # of the denoiser's named shapes; an inpainting UNet differs from its family in conv_in only


def components(pipeline: Any) -> "Mapping[str, Module]":
    """The pipeline's denoiser and text encoders by name."""
    names = (*_DENOISERS, "text_encoder", "text_encoder_2", "text_encoder_3")
    return {name: module for name in names if isinstance(module := getattr(pipeline, name, None), torch.nn.Module)}


def recognise(pipeline: Any) -> Base:
    """The family whose names and shapes the pipeline's denoiser has; raises NotSupported, saying what was found."""
    found = components(pipeline)
    denoiser = next((found[name] for name in _DENOISERS if name in found), None)
    if denoiser is not None:
        shapes = {name: tuple(parameter.shape) for name, parameter in denoiser.named_parameters()}
        for base in BASES:
            layers = [layer for layer in base.layers if layer.target.component in _DENOISERS]
            like = sum(shapes.get(f"{layer.target.module}.weight") == layer.shape for layer in layers)
            if like >= _LIKENESS * len(layers):
                return base
    kind = type(denoiser).__name__ if denoiser is not None else "no unet or transformer"
    known = ", ".join(base.title for base in BASES)
    raise NotSupported(f"{type(pipeline).__name__} with {kind}: not a base that the native engine knows; known are {known}")


def live_modules(pipeline: Any, base: Base) -> "dict[Target, Module]":
    """The module of each target. transformers 5 dropped `text_model.` from CLIPTextModel's names; files and targets keep it."""
    found: dict[Target, Module] = {}
    for component, root in components(pipeline).items():
        by_name = dict(root.named_modules())
        for layer in base.layers:
            if layer.target.component == component:
                name = layer.target.module
                module = by_name.get(name) or by_name.get(name.removeprefix("text_model."))
                if module is not None:
                    found[layer.target] = module
    return found


def refuse_foreign_layers(pipeline: Any) -> None:
    """PEFT layers and fused projections rename what adapters attach to; raises NotSupported, naming what to undo."""
    for name, component in components(pipeline).items():
        for path, module in component.named_modules():
            if hasattr(module, "base_layer"):
                raise NotSupported(f"{name}.{path} carries a PEFT adapter; call pipeline.unload_lora_weights() first")
            if getattr(module, "fused_projections", False):
                raise NotSupported(f"{name}.{path} has fused projections; call pipeline.unfuse_qkv_projections() first")
