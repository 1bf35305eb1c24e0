"""What tools store differently, mended at the border so that there is one form inside. Shapes are mended as tensors are.

- DoRA's vector is [out, 1, ...] (norms of rows) or [1, in, ...] (of columns) inside. PEFT and ai-toolkit, known by their names
  for it, mean rows, whatever the shape; a bare vector of another tool goes by its length, rows first.
- PEFT's LoRA of an embedding is its matrix transposed, the other way round.
- PEFT's alpha stands in its config, and scales the bias too. Its LoKr is scaled by alpha/r even where nothing is factored.
- PEFT's IA3 stores the factor itself, LyCORIS what is added to 1.
- A rotation whose constraint is FREE has none, which is 0 inside.
- PEFT's AdaLoRA has a factor for each rank, flat matrices for convolutions, and a scale of its own.
- OneTrainer's LoHa of a convolution has factors with a kernel, where LyCORIS' are matrices.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loraloom.adapters import BEGINNINGS, Adapter, DoRA, LoRA, Shape
from loraloom.bases import Layer
from loraloom.dialects import peftconfig
from loraloom.errors import UnknownFormat
from loraloom.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_MAGNITUDES = (".lora_magnitude_vector", ".lora_magnitude_vector.weight", ".magnitude")
_EMBEDDINGS = (".lora_embedding_A", ".lora_embedding_B")
_PEFTS_IA3 = ".ia3_l"
# The alpha with which a rotation that is not clamped is written. Tools clamp the length of Q, over all blocks, to alpha or to alpha
# times the outputs. At length 1 all of a turn is already 90 degrees or less, so a length of 2^15 is none that training finds; and 2^15
# is exact in float16, where the next power of two is infinite, in bfloat16 and in float32.
FREE = 2.0**15
_WITHOUT_BIAS = (".to_q", ".to_k", ".to_v")
_ONETRAINERS = frozenset({"ot_branch", "ot_revision", "ot_config"})  # in the metadata of all its files
_RANKS = "lora_E"
_SIDES = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
# Without a tensor of one of these suffixes no shape is mended.
_SHAPED = frozenset({"dora_scale", "weight", _RANKS, *_SIDES})


def shapes(found: Mapping[str, Shape], spelled: Mapping[str, str], layer: Layer) -> Mapping[str, Shape]:
    """The shapes that `mend` leaves, the very same mapping where it changes none; raises UnknownFormat for what cannot be mended."""
    if layer.kind == "embedding":
        return {suffix: shape[::-1] if _ends(spelled[suffix], _EMBEDDINGS) else shape for suffix, shape in found.items()}
    if _SHAPED.isdisjoint(found):
        return found
    mended = {suffix: _flat(suffix, shape) for suffix, shape in found.items()}
    if _RANKS in mended:
        del mended[_RANKS]
        mended["lora_down.weight"] = _with_kernel(found.get("lora_down.weight", ()), layer)
        mended["scale"] = ()
    if "dora_scale" in found:
        mended["dora_scale"] = _magnitude(found["dora_scale"], spelled["dora_scale"], layer.shape)
    if "weight" in found and _ends(spelled["weight"], (_PEFTS_IA3,)):
        if not _is_input(found["weight"]) and not layer.target.module.endswith(_WITHOUT_BIAS):
            raise UnknownFormat("PEFT's IA3 of a module's outputs scales its bias too, and the bias is the base's: not in this file")
        mended["weight"], mended["on_input"] = _ia3(found["weight"], layer), ()
    return mended


def mend(group: "dict[str, Tensor]", spelled: Mapping[str, str], layer: Layer, metadata: Mapping[str, str] | None) -> "dict[str, Tensor]":
    """The tensors of one target as they are inside. `metadata` is None where no PEFT config counts."""
    if layer.kind == "embedding":
        group = {suffix: tensor.T.contiguous() if _ends(spelled[suffix], _EMBEDDINGS) else tensor for suffix, tensor in group.items()}
    if "dora_scale" in group:
        vector = group["dora_scale"]
        group["dora_scale"] = vector.reshape(_magnitude(tuple(vector.shape), spelled["dora_scale"], layer.shape))
    if "oft_blocks" in group and "alpha" in group and bool((group["alpha"] == FREE).all()):
        group["alpha"] = torch.zeros(())
    if "weight" in group and _ends(spelled["weight"], (_PEFTS_IA3,)):
        factor = group["weight"]
        group["weight"] = factor.float().reshape(_ia3(tuple(factor.shape), layer)) - 1
        group["on_input"] = torch.tensor(float(_is_input(tuple(factor.shape))))
    group = {suffix: tensor.reshape(_flat(suffix, tuple(tensor.shape))) for suffix, tensor in group.items()}
    if _RANKS in group:
        return _adaptive(group, layer, metadata or {})
    if metadata is not None:
        _scale(group, spelled, layer, metadata)
    return group


def kind(read: type[Adapter] | None, found: Mapping[str, Shape], layer: Layer, metadata: Mapping[str, str]) -> type[Adapter] | None:
    """`read`, or what PEFT's config makes of it: a LoRA that began inside of the base's weights. Raises UnknownFormat for the rest."""
    component = layer.target.component
    if reason := peftconfig.refusal(metadata, component):
        raise UnknownFormat(reason)
    if _RANKS in found and not peftconfig.of(metadata, component).told:
        raise UnknownFormat("AdaLoRA's scale is in PEFT's adapter_config.json; put it beside the file")
    began = BEGINNINGS.get(peftconfig.beginning(metadata, component))
    if began is None or read is None:
        return read
    if read is LoRA:
        return began
    if issubclass(read, DoRA) and read.inner_type is LoRA:
        return DoRA.around(began)
    raise UnknownFormat(f"PEFT's init_lora_weights = {began.name!r} of a {read.name} is not read")


def _adaptive(group: "dict[str, Tensor]", layer: Layer, metadata: Mapping[str, str]) -> "dict[str, Tensor]":
    """AdaLoRA (arXiv:2303.10512) as the LoRA that it is: up · (E ∘ down), the scale in the config alone."""
    config = peftconfig.of(metadata, layer.target.component)
    down = group["lora_down.weight"].float() * group.pop(_RANKS).float()
    group["lora_down.weight"] = down.reshape(_with_kernel(tuple(down.shape), layer))
    return {**group, "scale": torch.tensor(config.adaptive_scale)}


def _scale(group: "dict[str, Tensor]", spelled: Mapping[str, str], layer: Layer, metadata: Mapping[str, str]) -> None:
    """Put PEFT's scale where the adapter keeps it."""
    full = "lokr_w1" in group and "lokr_w2" in group
    rank = next((len(group[suffix]) for suffix in peftconfig.RANKED if suffix in group), 0)
    if "alpha" not in group and (rank or full):
        config = peftconfig.of(metadata, layer.target.component)
        if full:
            rank = config.rank_of(layer.target.module) or 1
            factor = config.alpha_of(layer.target.module, rank) / rank
            if factor != 1:
                group["lokr_w2"] = group["lokr_w2"].float() * factor
        else:
            group["alpha"] = torch.tensor(config.alpha_of(layer.target.module, rank))
    if spelled.get("diff_b", "").endswith("bias") and rank:
        group["diff_b"] = group["diff_b"] * (float(group["alpha"]) / rank)


def turned(group: "dict[str, Tensor]", layer: Layer, metadata: Mapping[str, str]) -> "dict[str, Tensor]":
    """PEFT's OFT, whose tensors are named as OneTrainer's: a convolution is turned the other way. Raises UnknownFormat for a config
    with another formula than the first four terms of the Cayley transform's series, its default and OneTrainer's only one."""
    if "oft_R.weight" not in group or _is_onetrainers(group, metadata):
        return group
    if not peftconfig.of(metadata, layer.target.component).is_usual_oft:
        raise UnknownFormat(f"{layer.target}: PEFT's OFT with use_cayley_neumann off or with another number of terms than 5 is not read")
    return group if layer.kind != "conv" else {**group, "oft_R.weight": -group["oft_R.weight"]}


def _is_onetrainers(group: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> bool:
    """It writes diffusers' names too: its metadata says so, or the marker that PEFT does not have."""
    return "oft_R.scaled_oft" in group or not _ONETRAINERS.isdisjoint(metadata)


def magnitude_shape(shape: Shape, target: Shape) -> Shape:
    """The shape of DoRA's vector that says whose norms it holds, with the weight's dimensions; as it is where it fits nobody's."""
    length, points = math.prod(shape), (1,) * (len(target) - 2)
    row, column = (length, 1, *points), (1, length, *points)
    flat = len(shape) == 1
    if length == target[0] and (flat or shape[:1] == (length,)):
        return row
    if (length,) == target[1:2] and (flat or shape[1:2] == (length,)):
        return column
    # PEFT's [1, out, 1, 1] under another tool's name, where it cannot be columns.
    return row if shape[1:2] == (length,) == target[:1] else shape


def _magnitude(shape: Shape, key: str, target: Shape) -> Shape:
    return (math.prod(shape), *(1,) * (len(target) - 1)) if _ends(key, _MAGNITUDES) else magnitude_shape(shape, target)


def _flat(suffix: str, shape: Shape) -> Shape:
    """LoHa's factors as matrices: [out, r, 1, 1] and [r, in, kh, kw] where they have a kernel."""
    if suffix not in _SIDES or len(shape) <= 2:
        return shape
    if suffix.endswith("_a") and math.prod(shape[2:]) != 1:
        return shape
    return (shape[0], math.prod(shape[1:]))


def _with_kernel(shape: Shape, layer: Layer) -> Shape:
    """A flat factor [r, in·kernel] as one of this convolution."""
    kernel = layer.shape[1:]
    return (shape[0], *kernel) if len(shape) == 2 and len(kernel) > 1 and shape[1] == math.prod(kernel) else shape


def _ends(key: str, endings: tuple[str, ...]) -> bool:
    return key.endswith(endings)


def _is_input(shape: Shape) -> bool:
    """PEFT's IA3 is [1, in, ...] on feed-forward modules, where it scales what goes in, else [out, 1] or [1, out, 1, 1]."""
    return len(shape) == 2 and shape[0] == 1


def _ia3(shape: Shape, layer: Layer) -> Shape:
    length = math.prod(shape)
    return (length,) if len(layer.shape) == 2 else (1, length, *(1,) * (len(layer.shape) - 2))
