"""What never loads torch: naming, recognising and matching need headers only. Each case is a fresh interpreter."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate")


def loaded(code: str, *arguments: str) -> list[str]:
    """The heavy libraries that `code` has loaded by its end."""
    report = f"\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code + report, *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return eval(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "module",
    [
        "loraloom",
        "loraloom.prompts",
        "loraloom.dialects",
        "loraloom.bases.detect",
        "loraloom.adapters",
        "loraloom.engine",
        "loraloom.converting",
    ],
)
def test_importing_a_room_loads_no_torch(module):
    assert loaded(f"import {module}") == []


def test_reading_a_header_and_matching_it_loads_no_torch(tmp_path):
    prefix = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{prefix}.lora_down.weight": np.zeros((4, 24), "f4"), f"{prefix}.lora_up.weight": np.zeros((16, 4), "f4")}
    save_file(tensors, tmp_path / "x.safetensors")
    code = """
import sys
from loraloom import dialects
from loraloom.bases import NANO
from loraloom.tensorfile import Header
header = Header.read(sys.argv[1])
assert dialects.detect(header.shapes, header.metadata).family == "nano"
assert len(dialects.match(header, NANO).groups) == 1
assert len(header.content_hash()) == 64
import loraloom
found = loraloom.inspect(sys.argv[1], hash=True, keys=True)
assert (found.family, found.modules, len(found.keys)) == ("nano", 1, 2)
assert loraloom.Session(lora_folders=()).fit(sys.argv[1]).verdict == "whole"
"""
    assert loaded(code, str(tmp_path / "x.safetensors")) == []
