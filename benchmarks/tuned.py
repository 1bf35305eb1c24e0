"""The LoRA between two checkpoints at full size: time, memory, and whether what was planted is found.
`python -m benchmarks.tuned [--quick] [--check] [--work FOLDER]`

SD 1.5 of random weights as a float32 folder in diffusers' layout, and two descendants as checkpoints of one file in the original
layout: one with a change of rank 8 planted on the attention layers of the UNet, in float32; one in which every weight moved, stored in
float16, as fine-tuning leaves it. Each case runs in a fresh process; memory is its highest RssAnon, imports included (Linux).
Writes benchmarks/results/tuned.md.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.fullsize import SD1, save_base
from benchmarks.measured import machine, span, table, write_result
from benchmarks.memory import MIB, peak
from benchmarks.peers import silence
from loraloom import tensorfile
from loraloom.basefile import open_base
from loraloom.bases import Layer
from loraloom.combine import CombineRequest
from loraloom.dialects import read
from loraloom.session import Session

PLANTED = 8  # ranks
MEMORY, RESIDUAL = 2048 * MIB, 1e-5


@dataclass(frozen=True)
class Case:
    name: str
    tuned: str
    wish: dict[str, Any]  # of the request


CASES = (
    Case("rank 8 planted: rank 64", "planted", {"rank": 64, "dtype": "fp32"}),
    Case("rank 8 planted: error 0.001", "planted", {"error": 0.001, "dtype": "fp32"}),
    Case("every weight moved: rank 64", "moved", {"rank": 64}),
)


def is_planted(layer: Layer) -> bool:
    return layer.attention and not layer.place.is_text


def planted(layer: Layer, generator: torch.Generator) -> torch.Tensor:
    """A change of rank 8, of the size of a tenth of the weights."""
    down = torch.randn(PLANTED, math.prod(layer.shape[1:]), generator=generator)
    up = torch.randn(layer.shape[0], PLANTED, generator=generator)
    return (up @ down * 5e-4).reshape(layer.shape)


def descend(folder: Path, output: Path, *, moved: bool) -> None:
    """Write a descendant of the base in `folder` in the original layout."""
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    with open_base(folder) as base:
        for layer in base.base.layers:
            for parameter in ("weight", "bias"):
                found = base.parameter(layer.target, parameter)
                if found is None:
                    continue
                value = found.clone()
                if moved:
                    value += torch.randn(value.shape, generator=generator) * 1e-3
                elif is_planted(layer) and parameter == "weight":
                    value += planted(layer, generator)
                kept = base.base.single_file[layer.target.component]
                place = kept.places(layer.target.module, layer.original, parameter)[0]
                tensors[place.key] = value.half() if moved else value
    tensorfile.write(output, tensors, {})


def changes(folder: Path, tuned: Path) -> Iterator[tuple[Layer, torch.Tensor]]:
    """Each planted change, as the two files have it, in float64."""
    with open_base(folder) as before, open_base(tuned) as after:
        for layer in before.base.layers:
            if is_planted(layer):
                yield layer, after.weight(layer.target).double() - before.weight(layer.target).double()


def measure(case: Case, folder: Path) -> dict[str, float]:
    """Seconds, bytes, and what came out."""
    torch.set_num_threads(1)
    tuned, output = folder / f"{case.tuned}.safetensors", folder / "out.safetensors"
    request = CombineRequest(base=str(folder / "base"), tuned=str(tuned), **case.wish)
    with peak() as highest:
        started = time.process_time()
        found = Session().extract(request, output, overwrite=True)
        seconds = time.process_time() - started
    told: dict[str, float] = {"seconds": seconds, "memory": highest[0], "modules": len(found.rows), "error": found.error}
    told |= {"least": found.ranks[0], "most": found.ranks[1], "written": found.worst.written, "size": output.stat().st_size}
    if case.tuned == "planted":
        file, zero = read(output), torch.zeros
        told["residual"] = max(
            float((file.adapters[layer.target].delta(zero(layer.shape)).double() - change).norm() / change.norm())
            for layer, change in changes(folder / "base", tuned)
        )
    return told


def row(case: Case, found: dict[str, float]) -> tuple[tuple[str, ...], list[str]]:
    """A line of the table, and what is broken."""
    broken = [f"{case.name}: {found['memory'] / MIB:.0f} MiB, allowed {MEMORY / MIB:.0f}"] if found["memory"] > MEMORY else []
    if case.tuned == "planted":
        if case.wish.get("error") is None and found["residual"] > RESIDUAL:
            broken.append(f"{case.name}: a residual of {found['residual']:.1e}, allowed {RESIDUAL:.0e}")
        if case.wish.get("error") is not None and (found["least"], found["most"]) != (PLANTED, PLANTED):
            broken.append(f"{case.name}: ranks {found['least']:.0f} to {found['most']:.0f}, planted {PLANTED}")
    least, most = found["least"], found["most"]
    ranks = f"{most:.0f}" if least == most else f"{least:.0f} to {most:.0f}"
    residual = f"{found['residual']:.1e}" if "residual" in found else f"{found['written']:.1e}"
    cells = (f"{found['modules']:.0f}", ranks, residual, f"{found['size'] / MIB:.0f} MiB", span(found["seconds"]))
    return (case.name, *cells, f"{found['memory'] / MIB:.0f} MiB", "BROKEN" if broken else "holds"), broken


def prepare(folder: Path, names: Iterable[str]) -> None:
    """The base and these descendants, if they are not there yet."""
    if not (folder / "base" / "model_index.json").is_file():
        save_base(SD1, folder / "base")
    for name in names:
        if not (folder / f"{name}.safetensors").is_file():
            descend(folder / "base", folder / f"{name}.safetensors", moved=name == "moved")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuned", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="what was planted only, nothing written")
    parser.add_argument("--work", type=Path, help="keep the random checkpoints in this folder and use them again")
    parser.add_argument("--check", action="store_true", help="exit 1 if something that must hold does not")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    silence()
    if arguments.case:
        print(json.dumps(measure(next(case for case in CASES if case.name == arguments.case), arguments.work)))
        return
    cases = [case for case in CASES if case.tuned == "planted" or not arguments.quick]
    lines, broken = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)) / "tuned"
        prepare(folder, dict.fromkeys(case.tuned for case in cases))
        for case in cases:
            command = [sys.executable, "-m", "benchmarks.tuned", "--case", case.name, "--work", str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            line, also = row(case, json.loads(done.stdout.splitlines()[-1]))
            lines.append(line)
            broken += also
    parts = [
        "# The LoRA between two checkpoints: SD 1.5",
        f"A float32 folder of 3.6 GiB against checkpoints of one file. CPU time of one thread, files in the system's memory. {machine()}.",
        table(("difference", "modules", "rank", "worst error as written", "file", "time", "memory", "verdict"), lines),
        "The error is relative to the module's change (Frobenius). Where every weight moved by noise, which no rank holds, it is what the "
        "best approximation leaves out. Memory is the highest anonymous memory of the process; goals: 2,048 MiB, what was planted within "
        "1e-5 at rank 64, and exactly its rank from an error.",
    ]
    if broken:
        parts.append("\n".join(f"- {text}" for text in broken))
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not arguments.quick:
        write_result("tuned", text)
    if arguments.check and broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
