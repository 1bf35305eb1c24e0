"""One adapter of every type and form, and layers of every kind: what the laws, the engine and the dialects are tried on."""

import torch
from lycoris_kinds import random_glora, random_loha, random_lokr
from support import random_boft, random_ia3, random_lora, random_oft, random_oft_diag, random_onetrainer_oft
from torch import nn

from loraloom.adapters import Adapter, DoRA, Full, Norm, Sparse

LAYERS = {
    "linear": lambda: nn.Linear(12, 8),
    "no bias": lambda: nn.Linear(12, 8, bias=False),
    "1x1": lambda: nn.Conv2d(12, 8, 1),
    "3x3": lambda: nn.Conv2d(12, 8, 3, padding=1),
    "3x3 stride": lambda: nn.Conv2d(12, 8, 3, stride=2, padding=1),
    "3x3 dilation": lambda: nn.Conv2d(12, 8, 3, padding=2, dilation=2),
    "3x5": lambda: nn.Conv2d(12, 8, (3, 5), padding=(0, 2), stride=(1, 2)),
    "same": lambda: nn.Conv2d(12, 8, 3, padding="same"),
    "circular": lambda: nn.Conv2d(12, 8, 3, padding=1, padding_mode="circular"),  # seamless tiles
    "layer norm": lambda: nn.LayerNorm(8),
    "layer norm without bias": lambda: nn.LayerNorm(8, bias=False),
    "group norm": lambda: nn.GroupNorm(4, 8),
    "rms norm": lambda: nn.RMSNorm(8),
    "embedding": lambda: nn.Embedding(8, 12),
}
KINDS = {nn.Linear: "linear", nn.Conv2d: "conv", nn.LayerNorm: "norm", nn.GroupNorm: "norm", nn.RMSNorm: "norm", nn.Embedding: "embedding"}
INPUTS = {
    nn.Linear: lambda: torch.randn(2, 5, 12),
    nn.Conv2d: lambda: torch.randn(2, 12, 9, 10),
    nn.LayerNorm: lambda: torch.randn(2, 5, 8),
    nn.GroupNorm: lambda: torch.randn(2, 8, 5, 6),
    nn.RMSNorm: lambda: torch.randn(2, 5, 8),
    nn.Embedding: lambda: torch.randint(0, 8, (2, 5)),
}
# One of each type, on which the longer laws are tried always; the other forms are for the long run.
FORMS = ("lora", "tucker", "loha", "lokr", "glora", "full", "norm", "dora", "sparse", "oft", "oft diag", "boft", "onetrainer oft", "ia3")
CASES = {
    "lora": lambda shape: random_lora(*shape),
    "lora without alpha": lambda shape: random_lora(*shape, alpha=None),
    "lora with bias": lambda shape: random_lora(*shape, bias=True),
    "tucker": lambda shape: random_lora(*shape, tucker=True),
    "loha": lambda shape: random_loha(*shape),
    "loha with bias": lambda shape: random_loha(*shape, bias=True),
    "loha tucker": lambda shape: random_loha(*shape, tucker=True),
    "loha of rank 1": lambda shape: random_loha(*shape, rank=1),
    "lokr": lambda shape: random_lokr(*shape),
    "lokr with bias": lambda shape: random_lokr(*shape, bias=True),
    "lokr, w1 factored": lambda shape: random_lokr(*shape, parts=(4, 4), first=True),
    "lokr, w2 factored": lambda shape: random_lokr(*shape, second=True, rank=1),
    "lokr, both factored": lambda shape: random_lokr(*shape, first=True, second=True, rank=1),
    "lokr tucker": lambda shape: random_lokr(*shape, parts=(2, 2), tucker=True),
    "lokr tucker, w1 factored": lambda shape: random_lokr(*shape, first=True, tucker=True, rank=1),
    "lokr of one column": lambda shape: random_lokr(*shape, parts=(1, 1), second=True),
    "glora": lambda shape: random_glora(*shape),
    "glora with bias": lambda shape: random_glora(*shape, bias=True),
    "glora tucker": lambda shape: random_glora(*shape, tucker=True),
    "full": lambda shape: Full(diff=torch.randn(shape)),
    "full with bias": lambda shape: Full(diff=torch.randn(shape), bias=torch.randn(shape[0])),
    "bias alone": lambda shape: Full(bias=torch.randn(shape[0])),
    "norm": lambda shape: Norm(weight=torch.randn(shape), shift=torch.randn(shape)),
    "norm weight": lambda shape: Norm(weight=torch.randn(shape)),
    "norm bias": lambda shape: Norm(shift=torch.randn(shape)),
    "dora": lambda shape: DoRA.of(random_lora(*shape), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "dora of columns": lambda shape: DoRA.of(random_lora(*shape), magnitude=1 + torch.rand(1, shape[1], *[1] * (len(shape) - 2))),
    "dora with bias": lambda shape: DoRA.of(random_lora(*shape, bias=True), magnitude=1 + torch.rand(shape[0])),
    "dora of tucker": lambda shape: DoRA.of(random_lora(*shape, tucker=True), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "dora of full": lambda shape: DoRA.of(Full(diff=torch.randn(shape)), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "dora of loha": lambda shape: DoRA.of(random_loha(*shape, bias=True), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "dora of lokr": lambda shape: DoRA.of(random_lokr(*shape), magnitude=1 + torch.rand(1, shape[1], *[1] * (len(shape) - 2))),
    "dora of glora": lambda shape: DoRA.of(random_glora(*shape), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1))),
    "sparse of loha": lambda shape: sparse(random_loha(*shape), shape),
    "sparse of lokr": lambda shape: sparse(random_lokr(*shape), shape),
    "sparse of glora": lambda shape: sparse(random_glora(*shape), shape),
    "sparse": lambda shape: sparse(random_lora(*shape, bias=True), shape),
    "sparse of full": lambda shape: sparse(Full(diff=torch.randn(shape)), shape),
    "loha fp16": lambda shape: random_loha(*shape, dtype=torch.float16),
    "lokr fp16": lambda shape: random_lokr(*shape, dtype=torch.float16),
    "glora fp16": lambda shape: random_glora(*shape, dtype=torch.float16),
    "oft": lambda shape: random_oft(*shape),
    "oft constrained": lambda shape: random_oft(*shape, alpha=0.05),
    "oft with rescale and bias": lambda shape: random_oft(*shape, alpha=None, rescale=True, bias=True),
    "oft diag": lambda shape: random_oft_diag(*shape),
    "oft diag with rescale and bias": lambda shape: random_oft_diag(*shape, rescale=True, bias=True),
    "boft": lambda shape: random_boft(*shape),
    "boft of one stage": lambda shape: random_boft(*shape, stages=1),
    "boft with rescale and bias": lambda shape: random_boft(*shape, rescale=True, bias=True),
    "onetrainer oft": lambda shape: random_onetrainer_oft(*shape),
    "onetrainer oft shared": lambda shape: random_onetrainer_oft(*shape, shared=True, scaled=False),
    "onetrainer oft with bias": lambda shape: random_onetrainer_oft(*shape, bias=True),
    "ia3": lambda shape: random_ia3(*shape),
    "ia3 on input": lambda shape: random_ia3(*shape, on_input=True),
    "ia3 with bias": lambda shape: random_ia3(*shape, bias=True),
    "ia3 on input with bias": lambda shape: random_ia3(*shape, on_input=True, bias=True),
    "fp16": lambda shape: random_lora(*shape, dtype=torch.float16),
    "bf16": lambda shape: random_lora(*shape, dtype=torch.bfloat16),
}


TURNING = ("oft", "oft diag", "boft", "onetrainer oft", "onetrainer oft with bias", "ia3", "ia3 on input")
CASES |= {
    f"dora of {name}": lambda shape, make=CASES[name]: DoRA.of(make(shape), magnitude=1 + torch.rand(shape[0], *[1] * (len(shape) - 1)))
    for name in TURNING
}
CASES |= {f"sparse of {name}": lambda shape, make=CASES[name]: sparse(make(shape), shape) for name in TURNING}


def sparse(inner: Adapter, shape: tuple[int, ...]) -> Sparse:
    """Three values at three places of a weight of `shape`, one of them twice."""
    indices = torch.tensor([[length - 1, 0, 0] for length in shape])
    return Sparse.of(inner, indices=indices, values=torch.tensor([3.0, -2.0, 5.0]), size=torch.tensor(shape))


def case(name: str, layer: str) -> tuple[Adapter, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module = LAYERS[layer]()
    return CASES[name](tuple(module.weight.shape)), module, INPUTS[type(module)]()


def kind_of(layer: str) -> str:
    return KINDS[type(LAYERS[layer]())]


def takes(name: str) -> frozenset[str]:
    """The kinds of layers that a case can be made for. Norms have one dimension, so their adapters cannot be made for others."""
    return frozenset({"norm"}) if name.startswith("norm") else type(CASES[name]((4, 4))).kinds
