"""OneTrainer cannot be installed: what its modules compute is re-enacted here from their formulas (modules/module/LoRAModule.py and
oft_utils.py, 2026), and its files from the shapes and names that they save."""

import math

import pytest
import torch
from safetensors.torch import save_file
from support import close

from loraloom.bases import NANO, Target
from loraloom.dialects import read

CONV = Target("unet", "down_blocks.1.resnets.0.conv1")
POINT = Target("unet", "down_blocks.0.attentions.0.proj_in")  # 1×1
LINEAR = Target("unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
STAMPS = [{"ot_branch": "master", "ot_revision": "1d2c3b4"}, {"ot_config": "{}"}, {"ot_revision": "1d2c3b4"}]


def kohya(target):
    return f"lora_unet_{target.module.replace('.', '_')}"


def diffusers(target):
    return f"unet.{target.module}"


def saved(tmp_path, target, tensors, names, metadata):
    path = tmp_path / "x.safetensors"
    save_file({f"{names(target)}.{suffix}": tensor for suffix, tensor in tensors.items()}, path, metadata)
    return path


def rotations(triangles, size, scaled):
    """R of its OFTRotationModule: the first terms of the Cayley transform's series, of upper triangles."""
    row, column = torch.triu_indices(size, size, 1)
    q = torch.zeros(len(triangles), size, size)
    q[:, row, column] = triangles / (2 * math.sqrt(size - 1) if scaled else 1)
    q = q - q.mT
    return torch.eye(size) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q


@pytest.mark.parametrize("metadata", STAMPS, ids=str)
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("names", [kohya, diffusers])
@pytest.mark.parametrize("target", [CONV, POINT, LINEAR], ids=str)
def test_its_oft_turns_a_convolution_the_same_way_in_every_naming(tmp_path, target, names, scaled, metadata):
    weight = torch.randn(NANO.by_target[target].shape)
    size = 4
    triangles = torch.randn(weight[0].numel() // size, size * (size - 1) // 2) * 0.3
    tensors = {"oft_R.weight": triangles} | ({"oft_R.scaled_oft": torch.tensor(1)} if scaled else {})
    file = read(saved(tmp_path, target, tensors, names, metadata), NANO)
    r = rotations(triangles, size, scaled)
    blocks = weight.reshape(len(weight), -1, size)
    turned = torch.einsum("oki,kij->okj", blocks, r if weight.ndim == 4 else r.mT).reshape(weight.shape)
    assert file.unknown == ()
    assert close(file.adapters[target].delta(weight), turned - weight)


@pytest.mark.parametrize("names", [kohya, diffusers])
@pytest.mark.parametrize("target", [CONV, POINT, LINEAR], ids=str)
def test_its_loha_of_a_convolution_has_factors_with_a_kernel(tmp_path, target, names):
    """Both factors are a layer's weights: down of the layer's kernel, up of 1×1, multiplied flat."""
    out, columns, *kernel = NANO.by_target[target].shape
    rank, points = 3, [1] * len(kernel)
    tensors = {}
    for side in "12":
        tensors |= {f"hada_w{side}_a": torch.randn(out, rank, *points), f"hada_w{side}_b": torch.randn(rank, columns, *kernel)}
    tensors["alpha"] = torch.tensor(1.5)
    file = read(saved(tmp_path, target, tensors, names, STAMPS[0]), NANO)
    one, two = (tensors[f"hada_w{side}_a"].flatten(1) @ tensors[f"hada_w{side}_b"].flatten(1) for side in "12")
    expected = (one * two * (1.5 / rank)).reshape(out, columns, *kernel)
    assert file.unknown == ()
    assert close(file.adapters[target].delta(expected), expected)
