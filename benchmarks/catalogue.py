"""The library at full size: first list, complete list, rescan, search.  `python -m benchmarks.catalogue [--quick] [--check]`

1,000 files with headers of about 273 KB (SDXL, kohya's names, the linear layers of one network) and 10,000 small ones, made in a
temporary folder; tensors are holes in the files, as only headers are read. Peer: `safetensors.safe_open(path).metadata()` over the
same files in the same rounds. Writes benchmarks/results/catalogue.md.
"""

import json
import random
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import safe_open

from benchmarks.measured import CLOCKS, Times, machine, options, span, table, write_result
from loraloom.bases.base import Base
from loraloom.bases.detect import by_family
from loraloom.catalogue import Catalogue
from loraloom.dialects import by_name

LARGE, SMALL = 1_000, 10_000
HEADER = 273_000  # bytes, quality.md §1
RANKS = (4, 8, 16, 32, 64, 128)  # each another layout
WORDS = ("ink", "neon", "castle", "watercolour", "portrait", "pixel", "oil", "sketch", "glass", "paper")


def write_library(folder: Path, base: Base, count: int, *, header: int, layouts: bool) -> None:
    """`count` files in folders of 100, each with the metadata of a trainer. With `layouts` no two have the same entries."""
    chance = random.Random(0)
    for number in range(count):
        path = folder / f"{WORDS[number // 100 % 10]} {number // 100}" / f"{chance.choice(WORDS)}-{number:05}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_header(path, base, rank=RANKS[number % len(RANKS)], header=header, number=number if layouts else None, chance=chance)


def write_header(path: Path, base: Base, *, rank: int, header: int, number: int | None, chance: random.Random) -> None:
    """A file of about `header` bytes of header; a `number` gives its first two layers ranks that no other number gives."""
    frequency = {f"10_{chance.choice(WORDS)}": {f"{word} {n}": chance.randrange(1, 40) for word in WORDS for n in range(8)}}
    metadata = {
        "ss_base_model_version": base.version,
        "ss_network_dim": str(rank),
        "ss_output_name": path.stem,
        "ss_tag_frequency": json.dumps(frequency),
        "sshs_model_hash": f"{chance.getrandbits(256):064x}",
        "modelspec.title": path.stem.title(),
    }
    fields: dict[str, object] = {"__metadata__": metadata}
    position, length = 0, len(json.dumps(metadata))
    for place, (prefix, shape) in enumerate(_layers(base)):
        if length >= header:
            break
        own = rank if number is None or place > 1 else 1 + (number // 1000 if place else number % 1000)
        for suffix, sizes in (("alpha", []), ("lora_down.weight", [own, shape[1]]), ("lora_up.weight", [shape[0], own])):
            count = 2 * (sizes[0] * sizes[1] if sizes else 1)
            fields[f"{prefix}.{suffix}"] = {"dtype": "F16", "shape": sizes, "data_offsets": [position, position + count]}
            position += count
            length += len(prefix) + 95
    text = json.dumps(fields, separators=(",", ":")).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + position)


def _layers(base: Base) -> Iterator[tuple[str, Sequence[int]]]:
    """The linear layers, the denoiser's first, as kohya spells them."""
    dialect = by_name("kohya")
    for layer in sorted((layer for layer in base.layers if layer.kind == "linear"), key=lambda layer: layer.target.component != "unet"):
        yield dialect.spell(layer, base)[0], layer.shape


class Bench:
    def __init__(self, folder: Path, times: Times) -> None:
        self.folder, self.times = folder, times
        self.turn = 0

    def fresh_index(self) -> Path:
        self.turn += 1
        return self.folder / f"index-{self.turn}.sqlite"

    def large(self, name: str) -> None:
        """First list, peer, all keys, second process; every part on the same files, which the system has in its memory."""
        library, index, times = self.folder / name, self.fresh_index(), self.times
        with times.of(f"{name} safe_open"):
            for path in library.rglob("*.safetensors"):
                with safe_open(path, "np") as file:
                    file.metadata()
        with times.of(f"{name} list"):
            catalogue = Catalogue([library], index=index)
            listed = catalogue.search(complete=False)
        with times.of(f"{name} complete"):
            catalogue.complete()
        kinds = {catalogue.facts(item).types for item in listed}
        if kinds != {("lora",)}:
            raise ValueError(f"the types that were found are {kinds}")

    def small(self) -> None:
        library, index, times = self.folder / "small", self.fresh_index(), self.times
        with times.of("small first"):
            Catalogue([library], index=index).complete()
        with times.of("small again"):
            catalogue = Catalogue([library], index=index)
            catalogue.complete()
        with times.of("small rescan"):
            catalogue.rescan()
        with times.of("small first search"):
            catalogue.search("neon 7")
        with times.of("small search"):
            found = catalogue.search("pixel lora neon-0")
        if not found or len(catalogue.items) <= len(found):
            raise ValueError(f"{len(found)} of {len(catalogue.items)} files were found")


def report(times: Times, counts: tuple[int, int], rounds: str) -> tuple[str, bool]:
    large, small = f"{counts[0]:,} files, headers of 273 KB", f"{counts[1]:,} small files"
    peer = times.median("same safe_open")
    goals = [
        (f"{large}: first list (names, metadata, triggers, sidecars)", "same list", f"≥ 10 × safe_open ({span(peer)})", peer / 10),
        (f"{large}: then types and families, six layouts", "same complete", "", None),
        (f"{large}: the same where no two have one layout", "other complete", "", None),
        (f"{small}: first scan, complete", "small first", "≤ 20 s", 20.0),
        (f"{small}: in another process, from the index", "small again", "≤ 1 s", 1.0),
        (f"{small}: rescan", "small rescan", "≤ 1 s", 1.0),
        (f"{small}: the first search after a start", "small first search", "≤ 100 ms", 0.1),
        (f"{small}: search", "small search", "≤ 100 ms", 0.1),
    ]
    lines, good = [], True
    for job, name, goal, limit in goals:
        took = times.median(name)
        met = limit is None or took <= limit
        good = good and met
        verdict = f"{goal} {'met' if met else 'MISSED'}" + (f": {peer / took:.0f} ×" if name == "same list" else "") if goal else ""
        lines.append((job, span(took), verdict))
    return (
        "# The library\n\n"
        f"Medians of {rounds}; files in the system's memory, a new index each round. {machine()}.\n\n"
        f"{table(('job', 'loraloom', 'goal'), lines)}\n\n"
        "A library holds few layouts: networks of one trainer, base and rank have the same entries, which are read once. The third row is "
        "the worst case.\n"
    ), good


def main() -> None:
    arguments = options("catalogue", __doc__, rounds=5, quick="one round of a tenth of the files").parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    counts = (LARGE // 10, SMALL // 10) if arguments.quick else (LARGE, SMALL)
    sdxl, nano = by_family("sdxl"), by_family("nano")
    if sdxl is None or nano is None:
        raise ValueError("a base is missing")
    times = Times(CLOCKS[arguments.clock])
    with tempfile.TemporaryDirectory(dir=arguments.work) as temporary:
        folder = Path(temporary)
        write_library(folder / "same", sdxl, counts[0], header=HEADER, layouts=False)
        write_library(folder / "other", sdxl, counts[0], header=HEADER, layouts=True)
        write_library(folder / "small", nano, counts[1], header=8_000, layouts=True)
        bench = Bench(folder, times)
        for _ in range(rounds):
            bench.large("same")
            bench.large("other")
            bench.small()
        text, good = report(times, counts, f"{rounds} rounds, {arguments.clock} time")
    print(text)
    if not arguments.quick:
        write_result("catalogue", text)
    if arguments.check and not good:
        sys.exit(1)


if __name__ == "__main__":
    main()
