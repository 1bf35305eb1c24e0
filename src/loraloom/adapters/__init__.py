"""Adapter types: the mathematics. A type is one file here and one name in `TYPES`; the README says how."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from loraloom.adapters.base import MAX_RANK, Adapter, NotExact, Shape, key
from loraloom.adapters.boft import BOFT
from loraloom.adapters.dora import DoRA
from loraloom.adapters.full import Full
from loraloom.adapters.glora import GLoRA
from loraloom.adapters.ia3 import IA3
from loraloom.adapters.loha import LoHa
from loraloom.adapters.lokr import LoKr
from loraloom.adapters.lora import LoRA
from loraloom.adapters.norm import Norm
from loraloom.adapters.oft import OFT
from loraloom.adapters.oft_diag import OFTDiag
from loraloom.adapters.oft_onetrainer import OneTrainerOFT
from loraloom.adapters.residual import BEGINNINGS, Residual
from loraloom.adapters.sparse import Sparse
from loraloom.adapters.wrapper import Wrapper
from loraloom.errors import UnknownFormat
from loraloom.plugins import registered

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN: tuple[type[Adapter], ...] = (LoRA, LoHa, LoKr, GLoRA, Full, Norm, OFT, OFTDiag, BOFT, OneTrainerOFT, IA3)
_WRAPPERS: tuple[type[Wrapper], ...] = (DoRA, Sparse)
TYPES: tuple[type[Adapter], ...] = (*_PLAIN, *(wrapper.around(kind) for wrapper in _WRAPPERS for kind in _PLAIN if kind is not Norm))
GROUP = "loraloom.types"  # entry points of other packages' types
SUFFIXES: frozenset[str] = frozenset(suffix for kind in TYPES for suffix in kind.suffixes())

# Types that are recognised and cannot be run, with the reason.
REFUSED = (
    (
        frozenset({"q_layer.weight", "p_layer.weight", "lambda_layer"}),
        "T-LoRA takes away a part of the base's own weights that is not in the file; merge it with the program that trained it",
    ),
)


def adapter_type(shapes: Mapping[str, Shape]) -> type[Adapter] | None:
    """The one type that accepts tensors of these names and shapes, or None."""
    own = next((kind for kind in TYPES if kind.accepts(shapes)), None)
    return own or next((kind for kind in registered(GROUP, Adapter) if kind.accepts(shapes)), None)


def read_adapter(tensors: "Mapping[str, Tensor]", target: Shape | None = None, file: Iterable[Mapping[str, Shape]] = ()) -> Adapter:
    """The adapter that these tensors, by suffix, are; raises UnknownFormat, naming keys and shapes.

    `target`, the weight's shape, and `file`, the shapes of the file's modules, settle what the tensors alone leave open.
    """
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in tensors.items()}
    kind = adapter_type(shapes)
    if kind is None:
        raise UnknownFormat(no_type(shapes))
    return kind.from_tensors(tensors if target is None else kind.settled(tensors, target, file))


def no_type(shapes: Mapping[str, Shape]) -> str:
    """The sentence for tensors that are no adapter: the first few, as a hostile file has any number of any length."""
    for suffixes, sentence in REFUSED:
        if suffixes <= shapes.keys():
            return sentence
    listed = [f"{suffix[:60]} {list(shape)}" for suffix, shape in sorted(shapes.items())[:8]]
    return f"no adapter type has the tensors {', '.join(listed)}" + (f" and {len(shapes) - 8} more" if len(shapes) > 8 else "")


__all__ = [
    "BEGINNINGS",
    "BOFT",
    "IA3",
    "MAX_RANK",
    "OFT",
    "REFUSED",
    "SUFFIXES",
    "TYPES",
    "Adapter",
    "DoRA",
    "Full",
    "GLoRA",
    "LoHa",
    "LoKr",
    "LoRA",
    "Norm",
    "NotExact",
    "OFTDiag",
    "OneTrainerOFT",
    "Residual",
    "Shape",
    "Sparse",
    "Wrapper",
    "adapter_type",
    "key",
    "no_type",
    "read_adapter",
]
