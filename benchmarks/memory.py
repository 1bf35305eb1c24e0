"""What an attach adds to the memory of a process.  `python -m benchmarks.memory [--quick] [--check]`

RssAnon of /proc/self/status (mapped files do not count), each case in a fresh process, after one untimed round that fills
every cache, gc and malloc_trim before each reading. SD 1.5 at full size; `--quick` does the float32 cases only. Linux.
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.fullsize import SD1, open_base, save_base, save_network
from benchmarks.measured import machine, table, write_result
from benchmarks.peers import silence
from loraloom.dialects import read
from loraloom.engine import Engine
from loraloom.engine.plan import Wish
from loraloom.lorafile import Mix
from loraloom.strength import Strength

MIB = 2**20
OF_NETWORK, OVER_MERGE, LEFT = 1.05, 64 * MIB, MIB  # a network may take 1.05 × its size; a merge 64 MiB more; nothing is left


@dataclass(frozen=True)
class Case:
    name: str
    wish: Wish
    dtype: str  # of the base
    cloned: bool  # weights made the process's own, as fine-tuning or another tool leaves them


CASES = (
    Case("branch", "branch", "float32", False),
    Case("merge, base as opened", "merge", "float32", False),
    Case("merge, base cloned", "merge", "float32", True),
    Case("branch, base cast", "branch", "bfloat16", False),
    Case("merge, base cast", "merge", "bfloat16", False),
)


def anonymous() -> int:
    """Bytes of the process that no file backs."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def settled() -> int:
    """The same after everything that can be given back was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return anonymous()


@contextmanager
def peak() -> Iterator[list[int]]:
    """The highest of readings every two milliseconds, in the list when it is over."""
    highest, over = [anonymous()], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            highest[0] = max(highest[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        over.set()
        watcher.join()


def measure(case: Case, folder: Path) -> dict[str, int]:
    """Bytes: the network's size, what the attach holds, its peak, and what is left afterwards."""
    torch.set_num_threads(1)
    pipeline: Any = open_base(replace(SD1, dtype=getattr(torch, case.dtype)), folder / "base")
    path = folder / f"{case.dtype}.safetensors"
    if case.cloned:
        for part in (pipeline.unet, pipeline.text_encoder):
            for parameter in part.parameters():
                parameter.data = parameter.data.clone()

    def once() -> tuple[int, int, int]:
        before = settled()
        with peak() as highest:
            file = read(path, SD1.base)
            size = file.nbytes
            with Engine(pipeline, SD1.base).attached(Mix(((file, Strength.of(0.8)),)), mode=case.wish):
                held = settled() - before
        return size, held, highest[0] - before

    once()
    before = settled()
    size, held, most = once()
    return {"network": size, "held": held, "peak": most, "left": settled() - before}


def row(case: Case, found: dict[str, int]) -> tuple[tuple[str, ...], list[str]]:
    """A line of the table, and what is broken."""
    allowed = OF_NETWORK * found["network"] + (OVER_MERGE if case.wish == "merge" else 0)
    broken = []
    # The peak of a branch counts too: nothing is made twice on the way.
    for what, limit in (("held", allowed), ("peak", allowed + MIB), ("left", LEFT)):
        if found[what] > limit:
            broken.append(f"{case.name}: {what} {found[what] / MIB:.1f} MiB, allowed {limit / MIB:.1f} MiB")
    cells = (f"{found[what] / MIB:.1f}" for what in ("network", "held", "peak", "left"))
    return (case.name, case.dtype, *cells, "BROKEN" if broken else "holds"), broken


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="float32 cases only, nothing written")
    parser.add_argument("--work", type=Path, help="keep the random base in this folder and use it again")
    parser.add_argument("--check", action="store_true", help="exit 1 if something that must hold does not")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    silence()
    if arguments.case:
        print(json.dumps(measure(next(case for case in CASES if case.name == arguments.case), arguments.work)))
        return
    cases = [case for case in CASES if case.dtype == "float32" or not arguments.quick]
    lines, broken = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)) / SD1.family
        if not (folder / "base" / "model_index.json").is_file():
            save_base(SD1, folder / "base")
        for dtype in {case.dtype for case in cases}:
            save_network(SD1, folder / f"{dtype}.safetensors", rank=32, dtype=getattr(torch, dtype))
        for case in cases:
            command = [sys.executable, "-m", "benchmarks.memory", "--case", case.name, "--work", str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            line, also = row(case, json.loads(done.stdout.splitlines()[-1]))
            lines.append(line)
            broken += also
    parts = [
        "# Memory of an attach: SD 1.5, rank 32 on 264 modules",
        f"MiB of anonymous memory over what the process had before reading the file, which is in the base's dtype. {machine()}.",
        table(("case", "base", "network", "held", "peak", "left afterwards", "verdict"), lines),
    ]
    if broken:
        parts += ["\n".join(f"- {text}" for text in broken)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not arguments.quick:
        write_result("memory", text)
    if arguments.check and broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
