"""Two LoRAs of one Linear as one, as others do it: kohya's script and SD.Next's extraction re-enacted, and PEFT itself.

All of them form the full matrix and decompose it. The attention layers and text encoders of SDXL are all Linear, so that what they
do to convolutions is not here.
"""

from collections.abc import Sequence
from functools import partial

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from benchmarks.measured import Times

Pair = tuple[Tensor, Tensor]  # down [rank, in], up [out, rank], float32, the scale in up
Parts = Sequence[tuple[Pair, float]]  # the networks' adapters of one module with their ratios

_CLAMP_QUANTILE = 0.99  # kohya's


def kohya(parts: Parts, rank: int, times: Times, name: str) -> Pair:
    """sd-scripts' networks/svd_merge_lora.py, precision float: every network added into a full weight, all singular vectors of it, the
    first `rank` kept, and what is beyond the 0.99 quantile of the two factors' values cut off."""
    with times.of(name):
        weight = torch.zeros(parts[0][0][1].shape[0], parts[0][0][0].shape[1])
        for (down, up), ratio in parts:
            weight = weight + ratio * (up @ down)
        u, s, vh = torch.linalg.svd(weight)
        u, vh = u[:, :rank] @ torch.diag(s[:rank]), vh[:rank]
        highest = torch.quantile(torch.cat([u.flatten(), vh.flatten()]), _CLAMP_QUANTILE)
        up, down = u.clamp(-highest, highest), vh.clamp(-highest, highest)
    return down, up


def sdnext(parts: Parts, rank: int, times: Times, name: str, dtype: torch.dtype = torch.float32) -> Pair:
    """SD.Next's modules/lora/lora_extract.py: a merged weight of a model of `dtype` less its backup, `torch.svd_lowrank` with q = rank
    and two iterations, its factors as bfloat16. That the networks are merged before is not counted."""
    torch.manual_seed(0)
    backup = torch.empty(parts[0][0][1].shape[0], parts[0][0][0].shape[1]).uniform_(-0.02, 0.02).to(dtype)
    merged = (backup.float() + torch.stack([ratio * (up @ down) for (down, up), ratio in parts]).sum(0)).to(dtype)
    with times.of(name):
        difference = merged.clone()
        difference -= backup
        u, s, v = torch.svd_lowrank(difference.float(), rank, 2)
        u, s, vh = u.bfloat16(), s.bfloat16(), v.t().bfloat16()
        up, down = u[:, :rank] @ torch.diag(s[:rank]), vh[:rank].contiguous()
    return down, up


def peft(parts: Parts, rank: int, times: Times, name: str) -> Pair:
    """`add_weighted_adapter(combination_type="svd")` on a model of this one layer, its other options as they come."""
    (down, up), _ = parts[0]
    model = nn.Sequential()
    model.add_module("layer", nn.Linear(down.shape[1], up.shape[0], bias=False))
    names = [f"network_{number}" for number in range(len(parts))]
    config = LoraConfig(r=len(down), lora_alpha=len(down), target_modules=["layer"])
    adapted = get_peft_model(model, config, names[0])
    for each in names[1:]:
        adapted.add_adapter(each, config)
    layer = adapted.base_model.model.layer
    with torch.no_grad():
        for each, ((down, up), _) in zip(names, parts, strict=True):
            layer.lora_A[each].weight.copy_(down)
            layer.lora_B[each].weight.copy_(up)
        with times.of(name):
            ratios = [ratio for _, ratio in parts]
            adapted.base_model.add_weighted_adapter(names, ratios, "mix", combination_type="svd", svd_rank=rank)
    return layer.lora_A["mix"].weight.detach(), layer.lora_B["mix"].weight.detach() * layer.scaling["mix"]


sdnext_bf16 = partial(sdnext, dtype=torch.bfloat16)
