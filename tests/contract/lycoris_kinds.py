"""Random adapters of LyCORIS' types for the laws, nothing zero in them."""

import math

import torch
from torch import Tensor

from loraloom.adapters import GLoRA, LoHa, LoKr


def values(seed: int, dtype: torch.dtype = torch.float32):
    """`values(seed)(*shape)`: normal numbers, smaller where more of them are added up."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return (torch.randn(size, generator=generator) / max(size[1:2], default=1) ** 0.5).to(dtype)

    return draw


def random_loha(
    *shape: int,
    rank: int = 3,
    alpha: float | None = 2.0,
    tucker: bool = False,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> LoHa:
    draw = values(seed, dtype)
    out, columns, *kernel = shape
    core = tucker and bool(kernel)
    a, b = ((rank, out), (rank, columns)) if core else ((out, rank), (rank, columns * math.prod(kernel)))
    return LoHa(
        w1_a=draw(*a) * 2,
        w1_b=draw(*b) * b[1] ** 0.5,
        w2_a=draw(*a) * 2,
        w2_b=draw(*b) * b[1] ** 0.5,
        t1=draw(rank, rank, *kernel) if core else None,
        t2=draw(rank, rank, *kernel) if core else None,
        alpha=None if alpha is None else torch.tensor(alpha),
        bias=draw(out) if bias else None,
    )


def random_lokr(
    *shape: int,
    parts: tuple[int, int] = (2, 4),
    rank: int = 2,
    first: bool = False,
    second: bool = False,
    tucker: bool = False,
    alpha: float | None = 3.0,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> LoKr:
    """w1 of `parts`; `first` and `second` factor w1 and w2, `tucker` gives w2 a core."""
    draw = values(seed, dtype)
    out, columns, *kernel = shape
    a, c = parts
    b, d = out // a, columns // c
    core = tucker and bool(kernel)
    made = {"w1_a": draw(a, rank), "w1_b": draw(rank, c)} if first else {"w1": draw(a, c)}
    if core:
        made |= {"w2_a": draw(rank, b), "w2_b": draw(rank, d), "t2": draw(rank, rank, *kernel)}
    elif second or tucker:
        made |= {"w2_a": draw(b, rank), "w2_b": draw(rank, d * math.prod(kernel))}
    else:
        made |= {"w2": draw(b, d, *kernel)}
    return LoKr(**made, alpha=None if alpha is None else torch.tensor(alpha), bias=draw(out) if bias else None)


def random_glora(
    *shape: int,
    rank: int = 3,
    alpha: float | None = 2.0,
    tucker: bool = False,
    bias: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> GLoRA:
    draw = values(seed, dtype)
    out, columns, *kernel = shape
    points = [1] * len(kernel)
    core = tucker and bool(kernel)
    return GLoRA(
        a1=draw(columns, rank, *points),
        a2=draw(rank, columns, *points),
        b1=draw(out, rank, *points),
        b2=draw(rank, columns, *(points if core else kernel)),
        bm=draw(rank, rank, *kernel) if core else None,
        alpha=None if alpha is None else torch.tensor(alpha),
        bias=draw(out) if bias else None,
    )
