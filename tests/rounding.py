"""Another processor's rounding: `pytest -p tests.rounding` shifts the result of every sum within what its arithmetic allows.

A sum of k products a·b in a format of unit roundoff u comes out within about u·Σ|a·b| of the exact one when its roundings are random
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §3.1: the bound is γ_k Σ|a·b|; at random k becomes √k, of partial sums √k
smaller), and where in there depends on the processor: the width of its registers, FMA, the order of the blocks. Each element is shifted by
up to that much. The shift follows from the bits of the result, so the same computation gives the same result again. Exact results stay.
Singular vectors change their signs too: LAPACK promises none.

It is a net for tests whose bound is that of one processor: slower by a factor of three, and not part of `make test`.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_BITS = {torch.float32: torch.int32, torch.float64: torch.int64, torch.float16: torch.int16, torch.bfloat16: torch.int16}


# Sums over a row, and functions of which libraries promise a unit in the last place or two.
_ROWS = (
    *(aten.sum, aten.mean, aten.linalg_vector_norm, aten.native_group_norm, aten.native_layer_norm, aten._softmax),
    *(aten.silu, aten.gelu, aten.exp, aten.rsqrt),
)


def _double(value):
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _chance(tensor):
    """In [-1, 1), for each element from its own bits."""
    bits = tensor.contiguous().view(_BITS[tensor.dtype]).long()
    return ((bits * 2654435761 + 0x9E3779B9) % 65521).double() / 32760.5 - 1


def _shifted(found, exact, size):
    """`found` shifted by up to one unit roundoff of `size`, where it is not exact."""
    roundoff = torch.finfo(found.dtype).eps / 2
    if found.dtype.itemsize == 2:  # summed in float32, then rounded once
        size = exact.abs()
    moved = (found.double() + _chance(found) * roundoff * size.double()).to(found.dtype)
    return torch.where(found.double() == exact, found, moved)


def _product(function, *operands, found, bias=None, scale=1.0):
    exact = function(*(operand.double() for operand in operands)) * scale
    size = function(*(operand.double().abs() for operand in operands)) * abs(scale)
    if bias is not None:
        exact, size = exact + bias.double(), size + bias.double().abs()
    return _shifted(found, exact, size)


def _signs(tensor, dim):
    """A sign for each column, from its first number's bits."""
    first = tensor.select(dim, 0)
    return torch.where(_chance(first) < 0, -1.0, 1.0).to(tensor.dtype)


class OtherRounding(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        first = found[0] if isinstance(found, tuple | list) else found
        if not isinstance(first, torch.Tensor) or first.dtype not in _BITS or first.device.type != "cpu" or not first.numel():
            return found
        packet = func.overloadpacket
        if packet in (aten.mm, aten.bmm):
            return _product(torch.matmul, *args[:2], found=found)
        if packet in (aten.addmm, aten.baddbmm):
            beta, alpha = kwargs.get("beta", 1), kwargs.get("alpha", 1)
            return _product(torch.matmul, *args[1:3], found=found, bias=args[0] * beta if beta else None, scale=alpha)
        if packet is aten.addmm_:
            return found
        if packet is aten.convolution:
            x, weight, bias, *rest = args
            run = lambda a, b: aten.convolution(a, b, None, *rest)  # noqa: E731
            beside = None if bias is None else bias.reshape(-1, *[1] * (weight.ndim - 2))
            return _product(run, x, weight, found=found, bias=beside)
        if packet in _ROWS:
            exact = func(*(_double(each) for each in args), **{key: _double(each) for key, each in kwargs.items() if key != "dtype"})
            exact, rest = (exact[0], found[1:]) if isinstance(found, tuple) else (exact, None)
            size = func(args[0].double().abs(), *args[1:]) if packet in (aten.sum, aten.mean) else 2 * exact.abs()
            moved = _shifted(first, exact, size.expand_as(first))
            return moved if rest is None else (moved, *rest)
        if packet is aten._linalg_svd:
            left, values, right = found
            if left.numel():
                signs = _signs(left, -2)
                left, right = left * signs[..., None, :], right * signs[..., :, None]
            return (
                left,
                _shifted(values, torch.full_like(values, float("nan"), dtype=torch.float64), values[..., :1].expand_as(values)),
                right,
            )
        if packet is aten.linalg_qr:
            left, right = found
            if left.numel() and left.shape[-1] == right.shape[-2]:
                signs = _signs(left, -2)
                left, right = left * signs[..., None, :], right * signs[..., :, None]
            return left, right
        return found


def pytest_sessionstart() -> None:
    """From now on, so that what fixtures compute once is shifted too. Threads that tests start round as this processor does."""
    OtherRounding().__enter__()
