"""Headers that are large for no good reason; what is malformed otherwise is in tests/stress."""

import json
import struct

import pytest

from loraloom.bases import NANO
from loraloom.dialects import read
from loraloom.errors import NothingApplied
from work import work_of


@pytest.mark.parametrize(
    "name",
    ["a." * 250, "lora_unet_conv_in." + "x" * 480, "unet.conv_in.x.", "up_blocks" * 50, "lora_te_self_attn" * 20],
    ids=lambda name: name[:20],
)
def test_work_and_memory_grow_with_the_header_and_no_faster(tmp_path, name):
    """The longest names, also where all are one module's: a square of 2,000 would take gigabytes, and four million calls."""
    few, many = (measured(tmp_path / f"{count}.safetensors", name, count) for count in (500, 2000))
    assert many.calls <= 4.4 * few.calls
    assert many.characters <= 4.4 * few.characters
    assert many.peak < 64 * 2**20


def measured(path, name, count):
    entries = {f"{name}{index}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for index in range(count)}
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    read_refused(path)  # what is made once, the books of names for example, is made now
    work, message = work_of(lambda: read_refused(path))
    assert len(message) < 4000
    return work


def read_refused(path):
    with pytest.raises(NothingApplied) as caught:
        read(path, NANO)
    return str(caught.value)
