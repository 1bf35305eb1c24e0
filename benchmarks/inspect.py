"""What a file is, from its header, at full size.  `python -m benchmarks.inspect [--quick] [--check]`

A network of rank 32 over the 986 modules of SDXL, 228 MB, and one of 8 over the 264 of SD 1.5. Peer: `safetensors.safe_open` with the
metadata, and the dtype and shape of each tensor, its JSON values parsed: what a tool reads before it knows anything, with no
recognition, no matching of names and no alphas. Writes benchmarks/results/inspect.md.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from safetensors import safe_open

from benchmarks.fullsize import SD1, SDXL, FullSize, save_network
from benchmarks.measured import CLOCKS, RESULTS, Times, machine, options, span, table
from loraloom.catalogue.inspecting import fit, inspect

GOAL = 0.3  # s of its own work, imports aside
TAGS = json.dumps({"10_ink": {f"tag {number}": 1000 - number for number in range(1000)}})
CASES = ((SDXL, 32), (SD1, 8))


def peer(path: Path) -> tuple[dict[str, Any], dict[str, tuple[str, list[int]]]]:
    with safe_open(path, "np") as file:
        metadata = {}
        for key, value in (file.metadata() or {}).items():
            try:
                metadata[key] = json.loads(value)
            except ValueError:
                metadata[key] = value
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        return metadata, {key: (part.get_dtype(), part.get_shape()) for key, part in slices.items()}


FIRST = """
import sys, time
from loraloom.catalogue.inspecting import inspect
clock = {"wall": time.perf_counter, "cpu": time.process_time}[sys.argv[2]]
started = clock()
inspect(sys.argv[1])
print(clock() - started)
"""


def first(path: Path, clock: str) -> float:
    """Seconds in a process of its own, as a command has it: the names of the base are spelled there."""
    return float(subprocess.run([sys.executable, "-c", FIRST, str(path), clock], capture_output=True, text=True, check=True).stdout)


def measure(times: Times, full: FullSize, path: Path) -> None:
    with times.of(f"{full.family} peer"):
        _, shapes = peer(path)
    with times.of(f"{full.family} inspect"):
        found = inspect(path)
    with times.of(f"{full.family} keys"):
        inspect(path, keys=True)
    with times.of(f"{full.family} check"):
        fitted = fit(path)
    with times.of(f"{full.family} hash"):
        hashed = inspect(path, hash=True)
    if (found.modules, found.unused, fitted.verdict, len(shapes)) != (full.modules, (), "whole", found.tensors):
        raise ValueError(f"{path.name}: {found.modules} modules of {full.modules}, {fitted.reason}")
    if hashed.hashes is None or hashed.hashes.agrees is not True:
        raise ValueError(f"{path.name}: its hash is not that of its metadata")


def report(times: Times, firsts: dict[str, list[float]], sizes: dict[str, int], rounds: str) -> tuple[str, bool]:
    jobs = {"inspect, again": "inspect", "inspect --keys": "keys", "check": "check", "inspect --hash": "hash", "safe_open": "peer"}
    lines, good = [], True
    for full, rank in CASES:
        name = f"{full.base.title}, rank {rank}, {full.modules} modules, {sizes[full.family] / 1e6:.0f} MB"
        floor, took = times.median(f"{full.family} peer"), statistics.median(firsts[full.family])
        good = good and took <= GOAL
        lines.append((f"{name}: inspect", span(took), f"{took / floor:.1f} ×", f"≤ {span(GOAL)} {'met' if took <= GOAL else 'MISSED'}"))
        for job, key in jobs.items():
            took = times.median(f"{full.family} {key}")
            lines.append((f"{name}: {job}", span(took), f"{took / floor:.1f} ×", ""))
    return (
        "# What a file is\n\n"
        f"Medians of {rounds}; files in the system's memory, imports aside. {machine()}.\n\n"
        f"{table(('job', 'time', 'of safe_open', 'goal'), lines)}\n\n"
        "safe_open reads the header, the metadata and each tensor's dtype and shape, and knows nothing of them. inspect recognises the "
        "base, names every module, reads every alpha and says what fits nothing. The first line is in a process of its own, as a command "
        "has it: the names of the base are spelled then, and kept for what follows.\n"
    ), good


def main() -> None:
    arguments = options("inspect", __doc__, rounds=9, quick="one round").parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    times = Times(CLOCKS[arguments.clock])
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        paths = {}
        for full, rank in CASES:
            path = save_network(full, Path(folder) / f"{full.family}.safetensors", rank=rank)
            paths[full.family] = with_tags(path)
        firsts = {family: [first(path, arguments.clock) for _ in range(rounds)] for family, path in paths.items()}
        for _ in range(rounds):
            for full, _rank in CASES:
                measure(times, full, paths[full.family])
        sizes = {family: path.stat().st_size for family, path in paths.items()}
    text, good = report(times, firsts, sizes, f"{rounds} rounds, {arguments.clock} time")
    print(text)
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "inspect.md").write_text(text, "utf-8")
    if arguments.check and not good:
        sys.exit(1)


def with_tags(path: Path) -> Path:
    """The file with the metadata of a trainer: a thousand tags."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = msgspec.json.decode(content[8 : 8 + length])
    header["__metadata__"] |= {"ss_tag_frequency": TAGS, "ss_network_module": "networks.lora", "ss_network_dim": "32"}
    text = msgspec.json.encode(header)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    return path


if __name__ == "__main__":
    main()
