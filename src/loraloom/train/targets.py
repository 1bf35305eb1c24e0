"""Which modules are trained, with which rank. formats.md §6: kohya's choice."""

import math
from dataclasses import dataclass

from loraloom.bases import Base, Layer
from loraloom.errors import SettingsError
from loraloom.train.config import ResolvedConfig

_LOCON = (".resnets.", ".downsamplers.", ".upsamplers.")  # ResnetBlock2D, Downsample2D, Upsample2D
_TRAINED = ("linear", "conv")


@dataclass(frozen=True)
class Planned:
    """What one layer's adapter will be."""

    layer: Layer
    rank: int
    alpha: float
    options: dict[str, bool]  # of the type


def plan(config: ResolvedConfig, base: Base) -> tuple[Planned, ...]:
    """Every layer that is trained. Kernels larger than 1×1 take the convolutions' rank, all others the rank."""
    layers = [layer for layer in base.layers if layer.target.component in config.components and _wanted(layer, locon=config.conv_rank > 0)]
    if not layers:
        raise SettingsError(f"components {', '.join(config.components)} of {base.title} have no modules that {config.type} trains")
    return tuple(_planned(config, layer) for layer in layers)


def _wanted(layer: Layer, *, locon: bool) -> bool:
    return layer.kind in _TRAINED and (layer.attention or (locon and any(part in f".{layer.target.module}." for part in _LOCON)))


def _planned(config: ResolvedConfig, layer: Layer) -> Planned:
    if math.prod(layer.shape[2:]) > 1:
        return Planned(layer, config.conv_rank, config.conv_alpha, {"tucker": True} if config.tucker else {})
    return Planned(layer, config.rank, config.alpha, {})
