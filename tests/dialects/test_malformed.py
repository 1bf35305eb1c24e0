"""Headers that are large for no good reason; what is malformed otherwise is in tests/stress."""

import json
import struct
import time
import tracemalloc

import pytest

from loraloom.bases import NANO
from loraloom.dialects import read
from loraloom.errors import NothingApplied


@pytest.mark.parametrize(
    "name",
    ["a." * 250, "lora_unet_conv_in." + "x" * 480, "unet.conv_in.x.", "up_blocks" * 50, "lora_te_self_attn" * 20],
    ids=lambda name: name[:20],
)
def test_time_and_memory_grow_with_the_header_and_no_faster(tmp_path, name):
    """2,000 tensors with the longest names, also where all are one module's: a square of that would take gigabytes."""
    entries = {f"{name}{index}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for index in range(2000)}
    text = json.dumps(entries).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(NothingApplied) as caught:
        read(tmp_path / "x.safetensors", NANO)
    assert len(str(caught.value)) < 4000
    assert time.perf_counter() - started < 3
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()
