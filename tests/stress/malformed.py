"""Malformed files of every type and dialect, read and attached in a process of its own.

    PYTHONPATH=tests/contract python tests/stress/malformed.py FOLDER COUNT SEED

Each is a valid file with bytes or header entries changed, or a bomb: small on the disk, huge if it were believed. Prints one JSON
object: how many were read and refused, the slowest, how far memory rose, and the first that did anything else.
"""

import copy
import json
import random
import resource
import struct
import sys
import time
from functools import partial
from pathlib import Path

import torch
from broken import SHAPES
from cases import CASES, takes
from support import fingerprint

from loraloom import tensorfile
from loraloom.adapters import SUFFIXES
from loraloom.bases import NANO
from loraloom.bases.nano.model import load
from loraloom.catalogue.inspecting import fit, inspect
from loraloom.dialects import DIALECTS, match, read
from loraloom.engine import Engine
from loraloom.errors import LoraError, Unforeseen
from loraloom.lorafile import Mix
from loraloom.strength import Strength
from loraloom.tensorfile import Header

JUNK = (None, True, -1, 0, 2**63, 1e300, "", "x", "F16", "I64", [], [1], [0, 0], [-1, 4], {}, {"a": {}}, "\ud800", "é" * 300)
METADATA = ("ss_network_dim", "ss_network_args", "ss_tag_frequency", "lora_adapter_metadata", "modelspec.title", "\x1b[2J")
BIG = 20_000
TARGET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
KERNEL = "lora_unet_conv_in"
BOMBS: tuple[dict[str, tuple[int, ...]], ...] = (
    {"lokr_w1": (200, 200), "lokr_w2": (100, 100)},  # their product would be 20,000 × 20,000
    {"lokr_w1_a": (BIG, 1), "lokr_w1_b": (1, BIG), "lokr_w2": (1, 1), "alpha": ()},
    {"lokr_w1": (2, 2), "lokr_w2_a": (8, 4096), "lokr_w2_b": (4096, 12), "alpha": ()},
    {"lokr_w1": (1, 1), "lokr_t2": (64, 64, 99, 99), "lokr_w2_a": (64, 16), "lokr_w2_b": (64, 24)},
    {"hada_w1_a": (BIG, 1), "hada_w1_b": (1, BIG), "hada_w2_a": (BIG, 1), "hada_w2_b": (1, BIG)},
    {"hada_w1_a": (16, 4096), "hada_w1_b": (4096, 16), "hada_w2_a": (16, 4096), "hada_w2_b": (4096, 16)},  # rank² would be 16 million
    {"lora_down.weight": (4097, 16), "lora_up.weight": (16, 4097)},
    {"lora_down.weight": (1, BIG), "lora_up.weight": (BIG, 1)},
    {"lora_down.weight": (16, 16, 1, 1), "lora_up.weight": (16, 16, 1, 1), "lora_mid.weight": (16, 16, 99, 99)},
    {"oft_blocks": (BIG, 2, 2)},
    {"oft_blocks": (1, 4097, 1)},
    {"oft_blocks": (16, 65_536, 2, 2)},
    {"oft_R.weight": (1, BIG * (BIG - 1) // 2000)},
    {"a1.weight": (BIG, 1), "a2.weight": (1, BIG), "b1.weight": (BIG, 1), "b2.weight": (1, BIG)},
    {"weight": (BIG,), "on_input": ()},
    {"diff": (BIG, 1)},
    {"lora_down.weight": (4, 16), "lora_up.weight": (16, 4), "dora_scale": (BIG, 1)},
    {"lora_down.weight": (4, 16), "lora_up.weight": (16, 4), "dora_scale": (16, 16)},
    {"lora_down.weight": (0, 16), "lora_up.weight": (16, 0)},
)


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
        kind = dice.randrange(8)
        if kind == 0:
            header[name] = copy.deepcopy(dice.choice(JUNK))
        elif kind == 1 and isinstance(entry, dict) and entry:
            entry[dice.choice(list(entry))] = copy.deepcopy(dice.choice(JUNK))
        elif kind == 2 and isinstance(entry, dict) and isinstance(entry.get("shape"), list):
            entry["shape"] = dice.sample(entry["shape"], len(entry["shape"])) + dice.choice(([], [1], [1, 1]))
        elif kind == 3 and isinstance(entry, dict) and "dtype" in entry:
            entry["dtype"] = dice.choice(("F32", "F16", "BF16", "I32", "I64", "F64", "BOOL", "F8_E4M3", "U8"))
        elif kind == 4:
            header[name[: dice.randrange(len(name) + 1)] + dice.choice(("", ".alpha", ".", ".lora_mid.weight", "x"))] = header.pop(name)
        elif kind == 5:
            header[dice.choice(list(header))] = header.pop(name)
        elif kind == 6 and isinstance(entry, dict):  # one more tensor of the module, empty or of no dimension, in any shape
            shape = dice.choice([shape for shape in SHAPES if 0 in shape])
            header[f"{name.partition('.')[0]}.{dice.choice(sorted(SUFFIXES))}"] = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        else:
            header["__metadata__"] = {dice.choice(METADATA): copy.deepcopy(dice.choice(JUNK))}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def seeds(folder: Path) -> list[bytes]:
    """A valid file of every case in every dialect that has a name for its tensors."""
    found = []
    for number, name in enumerate(CASES):
        torch.manual_seed(number)
        layers = [layer for layer in NANO.layers if layer.kind in takes(name) and not (layer.kind == "embedding" and "bias" in name)]
        chosen = random.Random(number).sample(layers, 3)
        for dialect in DIALECTS:
            if not all(dialect.spell(layer, NANO) for layer in chosen):
                continue
            tensors: dict[str, torch.Tensor] = {}
            try:
                for layer in chosen:
                    tensors |= dialect.write_tensors(CASES[name](layer.shape), layer, NANO)
            except LoraError:
                continue
            found.append(tensorfile.write(folder / "seed.safetensors", tensors, {"ss_network_dim": "4"}).read_bytes())
    return found


def bomb(shapes: dict[str, tuple[int, ...]], path: Path, prefix: str) -> None:
    """Holes on the disk where its tensors would be."""
    entries, position = {}, 0
    for suffix, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        entries[f"{prefix}.{suffix}"] = {"dtype": "F16", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + position)


def peak() -> int:
    """Kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Trial:
    """Reads one file after another; every fourth that is read is attached too."""

    def __init__(self) -> None:
        self.pipeline = load()
        self.engine = Engine(self.pipeline)
        self.prints = fingerprint(self.pipeline)
        self.counts = {"read": 0, "attached": 0, "refused": 0}
        self.slowest = 0.0

    def one(self, path: Path, *, force: bool) -> None:
        started, attached = time.perf_counter(), False
        for look in (partial(inspect, keys=True), partial(fit, base=NANO, deep=True)):
            try:
                look(path)
            except LoraError as error:
                if isinstance(error, Unforeseen):
                    raise
        try:
            file = read(path, NANO, force=force)
            self.counts["read"] += 1
            header = Header.read(path)
            matched = match(header, NANO)
            used = [*matched.words, *(key for keys in matched.groups.values() for key in keys)]
            assert sorted(used + [entry.split(": ", 1)[0] for entry in matched.unknown]) == sorted(header.entries)
            if self.counts["read"] % 4 == 0:
                mode = "merge" if self.counts["read"] % 8 else "branch"
                attached = True
                with self.engine.attached(Mix(((file, Strength.of(0.5)),)), mode=mode):
                    self.counts["attached"] += 1
        except LoraError:
            self.counts["refused"] += 1
        self.slowest = max(self.slowest, time.perf_counter() - started)
        assert not attached or fingerprint(self.pipeline) == self.prints, "the base was changed"


def main() -> None:
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dice, path, trial = random.Random(seed), folder / "x.safetensors", Trial()
    valid = seeds(folder)
    for content in valid[::7]:  # warm: what is loaded and cached once is nobody's bomb
        path.write_bytes(content)
        trial.one(path, force=True)
    trial.slowest, before = 0.0, peak()
    for number in range(count):
        kind = dice.random()
        if kind < 0.05:
            bomb(dice.choice(BOMBS), path, dice.choice((TARGET, KERNEL)))
        else:
            path.write_bytes((bytes_changed if kind < 0.4 else header_changed)(dice.choice(valid), dice))
        try:
            trial.one(path, force=dice.random() < 0.5)
        except BaseException:
            path.rename(folder / f"bad-{number}.safetensors")
            print(f"file {number} of seed {seed}", file=sys.stderr)
            raise
    print(json.dumps({**trial.counts, "slowest": trial.slowest, "grown": (peak() - before) * 1024, "seeds": len(valid)}))


if __name__ == "__main__":
    main()
