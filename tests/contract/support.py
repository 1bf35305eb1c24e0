"""Random adapters and networks for the laws. Values are large enough that a missing or doubled delta is seen."""

import hashlib
import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from loraloom.adapters import BOFT, IA3, OFT, LoRA, OFTDiag, OneTrainerOFT
from loraloom.adapters.boft import most_stages
from loraloom.bases import Base, Layer
from loraloom.lorafile import LoraFile


def random_lora(
    *shape: int,
    rank: int = 4,
    alpha: float | None = 3.0,
    tucker: bool = False,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> LoRA:
    """A LoRA for a weight of `shape` with nothing zero in it."""
    generator = torch.Generator().manual_seed(seed)
    out, columns, *kernel = shape
    points = [1] * len(kernel)
    tucker = tucker and bool(kernel)

    def values(*size: int) -> Tensor:
        return (torch.randn(size, generator=generator) / size[1] ** 0.5 if len(size) > 1 else torch.randn(size, generator=generator)).to(
            dtype
        )

    return LoRA(
        down=values(rank, columns, *(points if tucker else kernel)),
        up=values(out, rank, *points),
        mid=values(rank, rank, *kernel) if tucker else None,
        alpha=None if alpha is None else torch.tensor(float(alpha)),
        bias=values(out) if bias else None,
    )


def random_oft(*shape: int, size: int | None = None, alpha: float | None = 0.0, rescale: bool = False, bias: bool = False) -> OFT:
    """An OFT of blocks of `size` rows, else of two blocks."""
    size = size or shape[0] // 2
    return OFT(
        blocks=torch.randn(shape[0] // size, size, size) * 0.3,
        alpha=None if alpha is None else torch.tensor(alpha),
        **_beside_rows(shape, rescale, bias),
    )


def random_oft_diag(*shape: int, rescale: bool = False, bias: bool = False) -> OFTDiag:
    """Two blocks that are no rotations: R is taken as it is."""
    size = shape[0] // 2
    return OFTDiag(blocks=torch.eye(size) + torch.randn(2, size, size) * 0.3, **_beside_rows(shape, rescale, bias))


def random_boft(*shape: int, size: int = 2, stages: int | None = None, rescale: bool = False, bias: bool = False) -> BOFT:
    """All stages that blocks of `size` rows can have, if not fewer."""
    blocks = shape[0] // size
    stages = stages or most_stages(blocks)
    return BOFT(blocks=torch.randn(stages, blocks, size, size) * 0.3, alpha=torch.tensor(0.0), **_beside_rows(shape, rescale, bias))


def random_onetrainer_oft(*shape: int, size: int = 4, shared: bool = False, scaled: bool = True, bias: bool = False) -> OneTrainerOFT:
    """Triangles for the input columns of a weight of `shape`; numbers that fit whether they are scaled or not."""
    blocks = 1 if shared else math.prod(shape[1:]) // size
    triangles = torch.randn(blocks, size * (size - 1) // 2) * (0.6 if scaled else 0.2)
    return OneTrainerOFT(triangles=triangles, scaled=torch.tensor(1.0) if scaled else None, bias=torch.randn(shape[0]) if bias else None)


def random_ia3(*shape: int, on_input: bool = False, bias: bool = False) -> IA3:
    channels = shape[1 if on_input else 0]
    vector = torch.randn(channels if len(shape) == 2 else (1, channels, *[1] * (len(shape) - 2)))
    return IA3(vector=vector, on_input=torch.tensor(float(on_input)), bias=torch.randn(shape[0]) if bias else None)


def _beside_rows(shape: tuple[int, ...], rescale: bool, bias: bool) -> dict[str, Tensor | None]:
    return {
        "rescale": 1 + 0.3 * torch.randn(shape[0], *[1] * (len(shape) - 1)) if rescale else None,
        "bias": torch.randn(shape[0]) if bias else None,
    }


def network(
    base: Base, which: Callable[[Layer], bool] = lambda layer: layer.attention, *, share: float = 1.0, seed: int = 0, **options
) -> LoraFile:
    """A network on the Linear and convolution layers that `which` picks, or on a random share of them."""
    pick = random.Random(seed)
    layers = [layer for layer in base.layers if layer.kind in ("linear", "conv") and which(layer) and pick.random() < share]
    adapters = {layer.target: random_lora(*layer.shape, seed=seed + index, **options) for index, layer in enumerate(layers)}
    return LoraFile(adapters, {"ss_output_name": f"random {seed}"}, base.family)


def everything(_: Layer) -> bool:
    return True


def fingerprint(pipeline) -> dict[str, str]:
    """sha256 of every parameter and buffer of the pipeline's modules, with dtype and shape."""
    found = {}
    for name, component in pipeline.components.items():
        if isinstance(component, torch.nn.Module):
            for path, tensor in component.state_dict(keep_vars=True).items():
                content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                found[f"{name}.{path}"] = f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"
    return found


def hooks(pipeline) -> int:
    """How many forward hooks the pipeline's modules carry."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for part in parts for module in part.modules())


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    """Within `tolerance` of the largest expected value."""
    if found.dtype == expected.dtype and torch.equal(found, expected):  # much is, and a comparison takes a tenth of the time
        return True
    return float((found.double() - expected.double()).abs().max()) <= tolerance * max(1e-30, float(expected.double().abs().max()))
