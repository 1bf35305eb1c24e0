"""`base_dtype`: the frozen base held in fewer bits. Weights of 16 or 32 bits are cast; float8 and int8 are torchao's, nf4 is bitsandbytes'.

Quantised are the linear layers of the adapted components: each product makes their weights float again. torchao's keep that copy for
the backward pass, so they save memory together with checkpointing. The adapters beside stay float32. nf4: Dettmers et al. 2023 (QLoRA),
arXiv:2305.14314.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.errors import NotSupported, SettingsError
from loraloom.extras import missing
from loraloom.lazy import torch
from loraloom.train.config import ResolvedConfig
from loraloom.train.view import View

if TYPE_CHECKING:
    from torch.nn import Linear, Module

_PACKAGES = {"float8": "torchao", "int8": "torchao", "nf4": "bitsandbytes"}
QUANTISED = tuple(_PACKAGES)


def read_as(base_dtype: str) -> "torch.dtype | None":
    """The dtype that a base can be read in at once; None where it is read as usual, and held otherwise afterwards or not at all."""
    return None if base_dtype in ("loaded", *QUANTISED) else getattr(torch, base_dtype)


def require(base_dtype: str) -> None:
    """Raises NotSupported without the package that quantises: before a base is loaded."""
    package = _PACKAGES.get(base_dtype)
    if package is not None and find_spec(package) is None:
        raise NotSupported(missing(f"base_dtype {base_dtype}", package))


def hold(seen: View, job: ResolvedConfig, kinds: Iterable[type[Adapter]]) -> None:
    """Hold the adapted components in `job.base_dtype`, for adapters of these types. This changes the pipeline's weights, and they stay so.

    Raises SettingsError for adapters that read the weights of a quantised base, NotSupported without the package that quantises.
    """
    if job.base_dtype == "loaded":
        return
    if job.base_dtype not in QUANTISED:
        for root in seen.components.values():
            torch.nn.Module.to(root, getattr(torch, job.base_dtype))  # diffusers' own warns of modules that no base here has
        return
    if readers := sorted({kind.name for kind in kinds if kind.reads_weight}):
        raise SettingsError(f"base_dtype {job.base_dtype}: {', '.join(readers)} reads the base's weights; use bfloat16, or another type")
    if job.base_dtype == "nf4" and job.max_norm:
        raise SettingsError("base_dtype nf4: max_norm measures changes of weights, which are packed; use int8, or leave out max_norm")
    try:
        for root in seen.components.values():
            _QUANTISE[job.base_dtype](root)
    except ImportError as error:
        raise NotSupported(missing(f"base_dtype {job.base_dtype}", _PACKAGES[job.base_dtype], error)) from error
    for root in seen.components.values():
        root.requires_grad_(False)


def _int8(root: "Module") -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(root, Int8WeightOnlyConfig())


def _float8(root: "Module") -> None:
    from torchao.quantization import Float8WeightOnlyConfig, quantize_

    quantize_(root, Float8WeightOnlyConfig())


def _nf4(root: "Module") -> None:
    from bitsandbytes.nn import Linear4bit, Params4bit

    for parent in list(root.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear:
                setattr(parent, name, _four_bits(layer, Linear4bit, Params4bit))


def _four_bits(layer: "Linear", kind: type, weight: type) -> "Module":
    made = kind(
        layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=layer.weight.dtype, quant_type="nf4", device="meta"
    )
    made.weight = weight(layer.weight.data, requires_grad=False, quant_type="nf4")
    made.bias = layer.bias
    made.support_avx512bf16_for_cpu = False  # or a CPU packs the weight for inference, in a form that has no backward pass
    quantised: Module = made.to(layer.weight.device).eval()  # where it happens
    return quantised


_QUANTISE: "Mapping[str, Callable[[Module], None]]" = {"float8": _float8, "int8": _int8, "nf4": _nf4}
