"""The change of each type by its published formula, not by ours: what the re-enacted programs work with.

LoRA arXiv:2106.09685; LoHa, LoKr, LoCon's core and full arXiv:2309.14859; GLoRA arXiv:2306.07967; OFT arXiv:2306.07280; BOFT
arXiv:2311.06243; DoRA arXiv:2402.09353.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

Own = Mapping[str, Tensor]  # the tensors of one module, by suffix


def kind(own: Own) -> str:
    """The type that programs take these tensors for: they look for one name of each."""
    signs = {"lora_up.weight": "lora", "hada_w1_a": "loha", "diff": "full", "a1.weight": "glora", "on_input": "ia3", "w_norm": "norm"}
    found = next((name for sign, name in signs.items() if sign in own), "")
    if not found and ("lokr_w1" in own or "lokr_w1_a" in own):
        return "lokr"
    if not found and "oft_blocks" in own:
        return "boft" if own["oft_blocks"].ndim == 4 else "oft"
    return found


def product(own: Own, shape: torch.Size) -> tuple[Tensor, int | None]:
    """The change before alpha of LoRA, LoHa, LoKr and full, and the rank that alpha is divided by."""
    which = kind(own)
    if which == "lora":
        up, down = own["lora_up.weight"].flatten(1), own["lora_down.weight"]
        if "lora_mid.weight" in own:
            return torch.einsum("om,mn...,ni->oi...", up, own["lora_mid.weight"], down.flatten(1)).reshape(shape), len(down)
        return (up @ down.flatten(1)).reshape(shape), len(down)
    if which == "loha":
        halves = [_half(own, f"hada_w{number}", f"hada_t{number}") for number in (1, 2)]
        return (halves[0] * halves[1]).reshape(shape), len(own["hada_w1_b"])
    if which == "lokr":
        first, second = lokr_parts(own)
        return kron(first, second.contiguous(), shape), lokr_rank(own)
    return own["diff"].reshape(shape), None


def _half(own: Own, name: str, core: str) -> Tensor:
    a, b = own[f"{name}_a"], own[f"{name}_b"]
    return torch.einsum("ij...,ip,jr->pr...", own[core], a, b) if core in own else a @ b


def lokr_parts(own: Own) -> tuple[Tensor, Tensor]:
    """w1, and w2 as einsum leaves it: not contiguous where it has a core."""
    first = own["lokr_w1"] if "lokr_w1" in own else own["lokr_w1_a"] @ own["lokr_w1_b"]
    if "lokr_w2" in own:
        return first, own["lokr_w2"]
    if "lokr_t2" in own:
        return first, torch.einsum("i j k l, j r, i p -> p r k l", own["lokr_t2"], own["lokr_w2_b"], own["lokr_w2_a"])
    return first, own["lokr_w2_a"] @ own["lokr_w2_b"]


def lokr_rank(own: Own) -> int | None:
    factored = own.get("lokr_w2_b", own.get("lokr_w1_b"))
    return None if factored is None else len(factored)


def kron(first: Tensor, second: Tensor, shape: torch.Size) -> Tensor:
    return torch.kron(first[..., None, None] if second.ndim == 4 else first, second).reshape(shape)


def scale(own: Own, rank: int | None) -> float:
    return float(own["alpha"]) / rank if "alpha" in own and rank else 1.0


def glora(own: Own, weight: Tensor) -> Tensor:
    """Of LyCORIS from 3.0: (W a1 a2 + b1 b2) · alpha/r. A core between b1 and b2 is not looked for."""
    a1, a2, b1, b2 = (own[f"{name}.weight"].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    through = torch.einsum("oi...,ir,rj->oj...", weight, a1, a2)
    return (through + (b1 @ b2).reshape(weight.shape)) * scale(own, len(a2))


def norms(weight: Tensor, dim: int) -> Tensor:
    """Of output rows (dim 0) or input columns (dim 1), broadcasting over the weight."""
    found: Tensor = torch.linalg.vector_norm(weight, dim=[each for each in range(weight.ndim) if each != dim], keepdim=True)
    return found


def turns(blocks: Tensor, limit: float | None) -> Tensor:
    """R = (I + Q)(I − Q)⁻¹ of each block, ‖Q‖ over all blocks clamped to `limit`."""
    q = blocks - blocks.mT
    length = float(q.norm())
    if limit is not None and length > limit:
        q = q * ((limit + 1e-8) / (length + 1e-8))
    identity = torch.eye(q.shape[-1])
    inverse: Tensor = torch.linalg.inv(identity - q)
    return (identity + q) @ inverse


def turned(rotations: Tensor, weight: Tensor) -> Tensor:
    """Output rows by the transposed block-diagonal R, as sd-scripts and LyCORIS have it."""
    count, size = rotations.shape[:2]
    rows: Tensor = torch.einsum("knm,kn...->km...", rotations, weight.reshape(count, size, *weight.shape[1:]))
    return rows.reshape(weight.shape)


def butterfly(rotations: Tensor, weight: Tensor) -> Tensor:
    """BOFT's stages [m, blocks, b, b]: in stage i rows that are 2^i · b/2 apart meet."""
    rows = weight
    for stage, blocks in enumerate(rotations):
        size = blocks.shape[-1]
        apart = 2**stage * size // 2
        shape = rows.shape
        gathered = rows.reshape(-1, 2, apart, *shape[1:]).transpose(1, 2).reshape(-1, size, *shape[1:])
        gathered = torch.einsum("bij,bj...->bi...", blocks, gathered)
        rows = gathered.reshape(-1, apart, 2, *shape[1:]).transpose(1, 2).reshape(shape)
    return rows
