"""An adapter as PEFT holds it: its tensors under PEFT's names, and what goes into PEFT's config.

What is not a number of the config goes into the factors. Where not every reader knows the config, all of the scale does.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from loraloom.adapters import Adapter
from loraloom.bases import Layer

if TYPE_CHECKING:
    from torch import Tensor

_LORA = frozenset({"lora_down.weight", "lora_up.weight", "alpha", "scale", "scalar", "diff_b", "dora_scale"})
_LOHA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"})
_TUCKER = frozenset({"hada_t1", "hada_t2"})


class Held(NamedTuple):
    tensors: "Mapping[str, Tensor]"  # by PEFT's suffix
    kind: str  # peft_type
    rank: int
    alpha: float
    dora: bool = False
    bias: bool = False
    options: Mapping[str, Any] = {}  # of the config


def hold(adapter: Adapter, layer: Layer, *, fold: bool = False) -> Held | str:
    """The adapter as PEFT has it, or what of it has no place there. With `fold` a LoRA's alpha is its rank, and its factors have the
    scale."""
    own = adapter.tensors()
    if own.keys() <= _LORA and "lora_down.weight" in own:
        return _embedding(adapter, own, fold) if layer.kind == "embedding" else _lora(adapter, own, layer, fold)
    if own.keys() >= _LOHA - {"alpha"} and own.keys() <= _LOHA | _TUCKER:
        rank = len(own["hada_w1_b"])
        tensors = {suffix: tensor for suffix, tensor in own.items() if suffix != "alpha"}
        return Held(tensors, "LOHA", rank, float(own.get("alpha", rank)), options={"use_effective_conv2d": "hada_t1" in own})
    return "a Tucker core" if own.keys() <= _LORA | {"lora_mid.weight"} else f"the type {adapter.name}"


def _lora(adapter: Adapter, own: "Mapping[str, Tensor]", layer: Layer, fold: bool) -> Held | str:
    rank, alpha, folded = _scale(adapter, own, fold)
    down, up = _folded(own["lora_down.weight"], own["lora_up.weight"], folded)
    tensors = {"lora_A.weight": down, "lora_B.weight": up}
    if "diff_b" in own:
        tensors["lora_B.bias"] = own["diff_b"] if alpha == rank else own["diff_b"].float() / (alpha / rank)
    if "dora_scale" in own:
        if own["dora_scale"].shape[0] != layer.shape[0]:
            return "DoRA's norms of input columns"
        if "diff_b" in own:
            return "a bias beside DoRA"
        points = (1,) * (len(layer.shape) - 2)
        tensors["lora_magnitude_vector"] = own["dora_scale"].reshape((1, -1, *points) if points else (-1,))
    return Held(tensors, "LORA", rank, alpha, dora="dora_scale" in own, bias="diff_b" in own)


def _embedding(adapter: Adapter, own: "Mapping[str, Tensor]", fold: bool) -> Held | str:
    """PEFT's matrices of an embedding are the transposed ones, the other way round."""
    if own.keys() & {"dora_scale", "diff_b"}:
        return "DoRA or a bias of an embedding"
    rank, alpha, folded = _scale(adapter, own, fold)
    down, up = _folded(own["lora_down.weight"], own["lora_up.weight"], folded)
    return Held({"lora_embedding_A": up.T, "lora_embedding_B": down.T}, "LORA", rank, alpha)


def _folded(down: "Tensor", up: "Tensor", factor: float) -> "tuple[Tensor, Tensor]":
    """Factors of `factor` times the product, the very tensors where that is 1. Both get powers of two besides, which are exact, until
    their largest values are of one size: up alone times 1/16 would lose its last bits in float16, whose smallest normal is 6.1e-5."""
    if factor == 1:
        return down, up
    down, up = down.float(), up.float() * factor
    largest, small = float(down.abs().max()), float(up.abs().max())
    if not largest or not small or not math.isfinite(largest * small):
        return down, up
    shift = 2.0 ** round(math.log2(largest / small) / 2)
    return down / shift, up * shift


def _scale(adapter: Adapter, own: "Mapping[str, Tensor]", fold: bool) -> tuple[int, float, float]:
    """(rank, alpha, factor): PEFT's alpha and r say the whole scale, and the factor is 1, but for what is folded, and for `scale`,
    `scalar` and alpha 0, which have no place there: these go into the factors, and alpha is the rank."""
    rank = len(own["lora_down.weight"])
    plain = not fold and "scale" not in own and "scalar" not in own and ("alpha" not in own or bool(own["alpha"] != 0))
    alpha = float(own["alpha"]) if plain and "alpha" in own else float(rank)
    scaling = adapter.scaling()
    multiplier = scaling[1] if scaling else 1.0
    factor = 1.0 if plain else multiplier / (alpha / rank)
    return rank, alpha, factor if math.isfinite(factor) else 1.0
