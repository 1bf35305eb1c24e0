"""One adapter of every form that a file can have, on one layer of every kind, with values that are seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from loraloom.adapters import BOFT, IA3, OFT, Adapter, DoRA, Full, GLoRA, LoHa, LoKr, LoRA, Norm, OFTDiag, OneTrainerOFT, Sparse
from loraloom.bases import Layer

Make = Callable[[Tensor], Adapter]  # from the layer's weight
RANK = 4


def _drawn(kind: type[Adapter], weight: Tensor, *, size: float = 0.3, rank: int = RANK, **options: object) -> Adapter:
    """The type's own beginning with random numbers in every tensor; alpha is half the rank, so that it is seen."""
    generator = torch.Generator().manual_seed(weight.numel())
    fresh = kind.init(weight, rank=rank, alpha=rank / 2, generator=generator, **options)
    return fresh.with_tensors({name: torch.randn(value.shape, generator=generator) * size for name, value in fresh.trainable().items()})


def _dora(inner: Adapter, weight: Tensor, *, columns: bool = False) -> Adapter:
    """Magnitudes within a fifth of the norms that W has, and a change before them that is a tenth of W: about what training leaves."""
    if inner.degree:
        inner = inner.shrunk(0.1 * float(weight.norm() / inner.delta(weight).norm()))
    over = [dim for dim in range(weight.ndim) if dim != columns]
    norms = torch.linalg.vector_norm(weight, dim=over, keepdim=True)
    return DoRA.of(inner, magnitude=norms * (1 + 0.2 * torch.rand(norms.shape, generator=torch.Generator().manual_seed(1))))


def _sparse(weight: Tensor) -> Adapter:
    places = torch.tensor([[length - 1, 0] for length in weight.shape])
    return Sparse.of(_drawn(LoRA, weight), indices=places, values=torch.tensor([1.0, -1.0]), size=torch.tensor(weight.shape))


def _rescaled(adapter: Adapter, weight: Tensor) -> Adapter:
    gain = 1 + 0.2 * torch.rand(len(weight), *[1] * (weight.ndim - 1), generator=torch.Generator().manual_seed(2))
    return adapter.with_tensors({"rescale": gain})


def _bias(adapter: Adapter, weight: Tensor) -> Adapter:
    return adapter.with_tensors({"bias": torch.randn(len(weight), generator=torch.Generator().manual_seed(3))})


def _norm(weight: Tensor) -> Adapter:
    generator = torch.Generator().manual_seed(4)
    return Norm(weight=torch.randn(weight.shape, generator=generator), shift=torch.randn(weight.shape, generator=generator))


def _glora_tucker(weight: Tensor) -> Adapter:
    """LyCORIS cannot make one; a core of the kernel between b1 and b2."""
    plain = _drawn(GLoRA, weight)
    if weight.ndim < 4 or weight.shape[-1] == 1:
        return plain
    assert isinstance(plain, GLoRA)
    core = torch.randn(RANK, RANK, *weight.shape[2:], generator=torch.Generator().manual_seed(6))
    return plain.with_tensors({"b2": plain.b2[..., :1, :1].contiguous(), "bm": core})


@dataclass(frozen=True)
class Form:
    make: Make
    of: Callable[[Layer], bool] = lambda layer: layer.kind in ("linear", "conv")
    biased: bool = False  # for layers that have a bias


def _kernel(layer: Layer) -> bool:
    return layer.shape[2:] not in ((), (1, 1)) and layer.kind == "conv"


# By the names of `loraloom.dialects.readers`.
FORMS: Mapping[str, Form] = {
    "lora": Form(lambda w: _drawn(LoRA, w)),
    "lora of an embedding": Form(lambda w: _drawn(LoRA, w), lambda layer: layer.kind == "embedding"),
    "bias": Form(lambda w: _bias(_drawn(LoRA, w), w), biased=True),
    "tucker": Form(lambda w: _drawn(LoRA, w, tucker=True), _kernel),
    "loha": Form(lambda w: _drawn(LoHa, w)),
    "loha tucker": Form(lambda w: _drawn(LoHa, w, tucker=True), _kernel),
    "lokr": Form(lambda w: _drawn(LoKr, w, rank=2, factor=2)),
    "lokr tucker": Form(lambda w: _drawn(LoKr, w, rank=2, factor=2, tucker=True), _kernel),
    "glora": Form(lambda w: _drawn(GLoRA, w)),
    "glora tucker": Form(_glora_tucker, _kernel),
    "full": Form(lambda w: _drawn(Full, w)),
    "bias of full": Form(lambda w: _bias(_drawn(Full, w), w), biased=True),
    "bias alone": Form(lambda w: Full(bias=_bias(_drawn(Full, w), w).bias), biased=True),
    "norm": Form(_norm, lambda layer: layer.kind == "norm" and not layer.place.is_text),
    "norm of a text encoder": Form(_norm, lambda layer: layer.kind == "norm" and layer.place.is_text),
    "dora": Form(lambda w: _dora(_drawn(LoRA, w), w)),
    "dora of columns": Form(lambda w: _dora(_drawn(LoRA, w), w, columns=True)),
    "dora of another type": Form(lambda w: _dora(_drawn(LoHa, w), w)),
    "dora of a rotation": Form(lambda w: _dora(_drawn(OFT, w), w)),
    "oft": Form(lambda w: _drawn(OFT, w)),
    "oft constrained": Form(lambda w: _drawn(OFT, w, constraint=0.02)),
    "oft rescaled": Form(lambda w: _rescaled(_drawn(OFT, w), w)),
    "boft": Form(lambda w: _drawn(BOFT, w)),
    "boft constrained": Form(lambda w: _drawn(BOFT, w, constraint=0.02)),
    "boft rescaled": Form(lambda w: _rescaled(_drawn(BOFT, w), w)),
    "oft diag": Form(lambda w: _drawn(OFTDiag, w)),
    "onetrainer oft": Form(lambda w: _drawn(OneTrainerOFT, w)),
    "ia3": Form(lambda w: _drawn(IA3, w), lambda layer: layer.kind == "linear"),
    "ia3 of a convolution": Form(lambda w: _drawn(IA3, w), lambda layer: layer.kind == "conv"),
    "sparse": Form(_sparse),
}
