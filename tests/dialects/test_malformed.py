"""2,000 malformed files made from valid ones of every dialect: a LoraError or a full account, quickly, and nothing else."""

import json
import random
import struct
import time
import tracemalloc

import pytest
import torch
from support import everything, network

from loraloom.bases import NANO
from loraloom.dialects import DIALECTS, match, read, write
from loraloom.dialects.folder import WEIGHTS
from loraloom.errors import LoraError, NothingApplied
from loraloom.tensorfile import Header

JUNK = (None, True, -1, 0, 2**63, 1e300, "", "x", "F16", "I64", [], [1], [0, 0], [-1, 4], {}, {"a": {}}, "\ud800", "é" * 300)


def bytes_changed(content: bytes, dice: random.Random) -> bytes:
    """Bits flipped, cut, doubled, overwritten: anywhere, mostly in the header."""
    data = bytearray(content)
    end = len(data) if dice.random() < 0.3 else min(len(data), 2000)
    for _ in range(dice.choice((1, 1, 2, 8))):
        start = dice.randrange(end)
        stop = start + dice.choice((1, 1, 8, 100))
        kind = dice.randrange(4)
        if kind == 0:
            data[start] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[start:stop] = dice.randbytes(len(data[start:stop]))
        elif kind == 2:
            del data[start:stop]
        else:
            data[start:start] = data[start:stop]
        end = min(end, len(data)) or 1
    return bytes(data)


def header_changed(content: bytes, dice: random.Random) -> bytes:
    """A header that is JSON and says something else; the length is right."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for _ in range(dice.choice((1, 1, 3))):
        name = dice.choice(list(header))
        entry = header[name]
        kind = dice.randrange(6)
        if kind == 0:
            header[name] = dice.choice(JUNK)
        elif kind == 1 and isinstance(entry, dict) and entry:
            entry[dice.choice(list(entry))] = dice.choice(JUNK)
        elif kind == 2 and isinstance(entry, dict) and entry.get("shape"):
            entry["shape"] = dice.sample(entry["shape"], len(entry["shape"])) + dice.choice(([], [1], [1, 1]))
        elif kind == 3 and isinstance(entry, dict) and "dtype" in entry:
            entry["dtype"] = dice.choice(("F32", "F16", "BF16", "I32", "I64", "F64", "BOOL", "F8_E4M3", "U8"))
        elif kind == 4:
            header[name[: dice.randrange(len(name) + 1)] + dice.choice(("", ".alpha", ".", ".lora_mid.weight", "x"))] = header.pop(name)
        else:
            header[dice.choice(list(header))] = header.pop(name)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


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


@pytest.mark.parametrize("change", [bytes_changed, header_changed])
@pytest.mark.parametrize("dialect", [dialect.name for dialect in DIALECTS if dialect.writes])
def test_nothing_but_a_lora_error_comes_out(tmp_path, dialect, change):
    seed = network(NANO, everything, share=0.1, rank=2, bias=True)
    written = write(seed, tmp_path / "valid.safetensors", dialect)
    valid = (next(written.rglob(WEIGHTS)) if written.is_dir() else written).read_bytes()
    path, dice, outcomes = tmp_path / "x.safetensors", random.Random(7), {"read": 0, "refused": 0}
    for _ in range(500):
        path.write_bytes(change(valid, dice))
        started = time.perf_counter()
        try:
            found = read(path, NANO, force=dice.random() < 0.5)
        except LoraError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            header = Header.read(path)
            groups, unknown = match(header, NANO)[1:3]
            used = [key for keys in groups.values() for key in keys]
            assert sorted(used + [entry.split(": ", 1)[0] for entry in unknown]) == sorted(header.entries)
            assert found.adapters.keys() == groups.keys()
            for target, adapter in found.adapters.items():
                assert adapter.delta(torch.zeros(NANO.by_target[target].shape)).isfinite().all()
        assert time.perf_counter() - started < 1
    assert all(outcomes.values()), f"the changes are all too harsh or too soft: {outcomes}"
