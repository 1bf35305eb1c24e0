"""An adapter as PEFT holds it: its tensors under PEFT's names, and what goes into PEFT's config."""

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


def hold(adapter: Adapter, layer: Layer) -> Held | str:
    """The adapter as PEFT has it, or what of it has no place there."""
    own = adapter.tensors()
    if own.keys() <= _LORA and "lora_down.weight" in own:
        return _embedding(adapter, own) if layer.kind == "embedding" else _lora(adapter, own, layer)
    if own.keys() >= _LOHA - {"alpha"} and own.keys() <= _LOHA | _TUCKER:
        rank = len(own["hada_w1_b"])
        tensors = {suffix: tensor for suffix, tensor in own.items() if suffix != "alpha"}
        return Held(tensors, "LOHA", rank, float(own.get("alpha", rank)), options={"use_effective_conv2d": "hada_t1" in own})
    return "a Tucker core" if own.keys() <= _LORA | {"lora_mid.weight"} else f"the type {adapter.name}"


def _lora(adapter: Adapter, own: "Mapping[str, Tensor]", layer: Layer) -> Held | str:
    rank, alpha, folded = _scale(adapter, own)
    up = own["lora_up.weight"]
    tensors = {"lora_A.weight": own["lora_down.weight"], "lora_B.weight": up if folded == 1 else up.float() * folded}
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


def _embedding(adapter: Adapter, own: "Mapping[str, Tensor]") -> Held | str:
    """PEFT's matrices of an embedding are the transposed ones, the other way round."""
    if own.keys() & {"dora_scale", "diff_b"}:
        return "DoRA or a bias of an embedding"
    rank, alpha, folded = _scale(adapter, own)
    up = own["lora_up.weight"]
    first = up if folded == 1 else up.float() * folded
    return Held({"lora_embedding_A": first.T, "lora_embedding_B": own["lora_down.weight"].T}, "LORA", rank, alpha)


def _scale(adapter: Adapter, own: "Mapping[str, Tensor]") -> tuple[int, float, float]:
    """(rank, alpha, factor): PEFT's alpha and r say the whole scale, and the factor is 1, but for `scale`, `scalar` and alpha 0,
    which have no place there: they go into the up factor."""
    rank = len(own["lora_down.weight"])
    plain = "scale" not in own and "scalar" not in own and ("alpha" not in own or bool(own["alpha"] != 0))
    alpha = float(own["alpha"]) if plain and "alpha" in own else float(rank)
    scaling = adapter.scaling()
    multiplier = scaling[1] if scaling else 1.0
    factor = 1.0 if plain else multiplier / (alpha / rank)
    return rank, alpha, factor if math.isfinite(factor) else 1.0
