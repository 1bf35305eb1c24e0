"""Two networks of rank 32 as one of rank 32, SDXL at full size, beside others.  `python -m benchmarks.combine [--quick] [--check]`

Ours over all 986 modules of the UNet and both text encoders, from loaded files. The others decompose full matrices, so that they do
one module of each distinct shape, counted as often as it is there; kohya's script and PEFT, which take minutes, once. Errors are
of the exact sum in float64. The values of a network fall by a tenth from rank to rank: most of the change is in a few ranks, as training
gives it. Writes benchmarks/results/combine.md; two threads are measured in the same run, after everything else.
"""

import argparse
import hashlib
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.combine_peers import Pair, Parts, kohya, peft, sdnext, sdnext_bf16
from benchmarks.fullsize import SDXL, save_network
from benchmarks.measured import CLOCKS, Times, machine, options, span, table, write_result
from benchmarks.memory import MIB, peak, settled
from loraloom import dialects
from loraloom.bases import Layer
from loraloom.combine import Combined, Goal, combine, distances, of_stack, probed
from loraloom.combine.spectrum import Spectrum
from loraloom.dialects.publishing import publish
from loraloom.lorafile import LoraFile, Stack
from loraloom.strength import Strength

RANK, DECAY, RATIOS = 32, 0.9, (0.8, 0.5)
SECONDS = 6.0
SLACK = 1e-6  # by this our error may be larger than another's
PEERS: Mapping[str, Callable[..., Pair]] = {"kohya": kohya, "SD.Next": sdnext, "PEFT": peft}
GOALS = {"kohya": 100.0, "SD.Next": 6.0, "PEFT": 20.0}  # times as fast
SLOW = ("kohya", "PEFT")  # one round
LOSSLESS: Mapping[str, Callable[..., Pair]] = {**PEERS, "SD.Next, base in bfloat16": sdnext_bf16}

_FEW = 3  # shapes, where nothing is timed
_WHOLE_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc gives what is larger back as soon as it is freed


@dataclass
class Errors:
    """By who: of each shape, the error against the exact sum."""

    of: dict[str, list[float]] = field(default_factory=dict)

    def note(self, who: str, pair: Pair, parts: Parts) -> None:
        exact = torch.stack([ratio * (up.double() @ down.double()) for (down, up), ratio in parts]).sum(0)
        down, up = (side.double() for side in pair)
        self.of.setdefault(who, []).append(float((up @ down - exact).norm() / exact.norm()))

    def span(self, who: str) -> str:
        return f"{min(self.of[who]):.1e} to {max(self.of[who]):.1e}"

    def excess(self, who: str) -> float:
        """The most by which ours is larger, of any shape."""
        return max(ours - theirs for ours, theirs in zip(self.of["loraloom"], self.of[who], strict=True))


def stack_of(paths: Iterable[Path]) -> Stack:
    return [(dialects.read(path, SDXL.base), Strength.of(ratio)) for path, ratio in zip(paths, RATIOS, strict=True)]


def parts_of(stack: Stack, layer: Layer) -> Parts:
    return [(factors(file, layer), ratio) for (file, _), ratio in zip(stack, RATIOS, strict=True)]


def factors(file: LoraFile, layer: Layer) -> Pair:
    found = file.adapters[layer.target].factors(layer.shape)
    if found is None:
        raise TypeError(f"{layer.target}: no factors, where a LoRA was written")
    return found


def beside(stack: Stack, shapes: Mapping[Layer, int], times: Times, rounds: int) -> Errors:
    """Ours and the others', interleaved; the time of a peer is under its name and the shape."""
    errors = Errors()
    for turn in range(rounds):
        with times.of("combine"):
            found = combine(stack, SDXL.base, Goal(rank=RANK))
        for layer in shapes:
            parts = parts_of(stack, layer)
            for name, run in PEERS.items():
                if turn == 0 or name not in SLOW:
                    pair = run(parts, RANK, times, f"{name} {layer.shape}")
                    if turn == 0:
                        errors.note(name, pair, parts)
            if turn == 0:
                errors.note("loraloom", factors(found.file, layer), parts)
    return errors


def lossless(shapes: Iterable[Layer]) -> Errors:
    """Two networks of half the rank: the sum has the rank of the result, and nothing needs to be lost."""
    errors, generator = Errors(), torch.Generator().manual_seed(0)
    half = RANK // 2
    fall = DECAY ** torch.arange(half)
    for layer in shapes:
        out, inputs = layer.shape
        sides = [
            (torch.randn(half, inputs, generator=generator) * fall[:, None], torch.randn(out, half, generator=generator)) for _ in RATIOS
        ]
        parts = [((down * 0.02, up * 0.02), ratio) for (down, up), ratio in zip(sides, RATIOS, strict=True)]
        for name, run in LOSSLESS.items():
            errors.note(name, run(parts, RANK, Times(), name), parts)
        errors.note("loraloom", combined_alone(parts), parts)
    return errors


def combined_alone(parts: Parts) -> Pair:
    down, up = torch.cat([down for (down, _), _ in parts]), torch.cat([up * ratio for (_, up), ratio in parts], dim=1)
    return Spectrum.of_factors(down, up).factors(RANK)


def around(stack: Stack, paths: Iterable[Path], folder: Path, times: Times, rounds: int) -> None:
    """What an extraction does besides."""
    for _ in range(rounds):
        with times.of("read"):
            for path in paths:
                dialects.read(path, SDXL.base)
        with times.of("exact"):
            combine(stack, SDXL.base, Goal())
        found = combine(stack, SDXL.base, Goal(rank=RANK))
        with times.of("write"):
            back = publish(found.file, SDXL.base, folder / "made.safetensors", "kohya", "float16", overwrite=True)
        with times.of("weights"):
            distances(back, found.file, SDXL.base)
        with times.of("probe"):
            probed(back, of_stack(stack), SDXL.base)


def memory(paths: Iterable[Path], environment: Mapping[str, str]) -> int:
    """Bytes of the peak over the result, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.combine", "--memory", *map(str, paths)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env={**os.environ, **environment})
    return int(done.stdout)


def peak_over_result(stack: Stack) -> int:
    """Of a second combination: the first fills caches."""
    combine(stack, SDXL.base, Goal(rank=RANK))
    before = settled()
    with peak() as highest:
        found = combine(stack, SDXL.base, Goal(rank=RANK))
    return highest[0] - before - found.file.nbytes


def two_threads(stack: Stack, times: Times, rounds: int) -> bool:
    """The same work with one thread and with two, in turn; whether both give the same bytes. The time is under the name and the number."""
    before, digests = torch.get_num_threads(), set()
    try:
        for threads in (1, 2) * rounds:
            torch.set_num_threads(threads)
            with times.of(f"combine {threads}"):
                found = combine(stack, SDXL.base, Goal(rank=RANK))
            digests.add(digest(found))
            with times.of(f"exact {threads}"):
                combine(stack, SDXL.base, Goal())
            with times.of(f"weights {threads}"):
                distances(found.file, found.file, SDXL.base)
            with times.of(f"probe {threads}"):
                probed(found.file, of_stack(stack), SDXL.base)
    finally:
        torch.set_num_threads(before)
    return len(digests) == 1


def digest(found: Combined) -> str:
    content = hashlib.sha256()
    for module in found.modules:
        for tensor in module.adapter.tensors().values():
            content.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def beside_others(times: Times, errors: Errors, shapes: Mapping[Layer, int]) -> tuple[str, list[str]]:
    """The table of times and errors, and what is missed."""
    took = times.median("combine")
    missed = [] if took <= SECONDS else [f"loraloom takes {span(took)}"]
    rows = [("loraloom", span(took), "", f"≤ {span(SECONDS)} {verdict(took <= SECONDS)}", errors.span("loraloom"), "")]
    for name, goal in GOALS.items():
        seconds = sum(count * times.median(f"{name} {layer.shape}") for layer, count in shapes.items())
        ratio, excess = seconds / took, errors.excess(name)
        missed += [] if ratio >= goal else [f"{name}: {ratio:.1f} times as fast"]
        missed += [] if excess <= SLACK else [f"{name}: our error is larger by {excess:.1e}"]
        rows.append((name, span(seconds), f"{ratio:,.1f} ×", f"≥ {goal:g} × {verdict(ratio >= goal)}", errors.span(name), f"{excess:+.1e}"))
    return table(("", "time", "loraloom is as fast", "goal", "error, from shape to shape", "ours less theirs, at most"), rows), missed


def verdict(good: bool) -> str:
    return "met" if good else "MISSED"


def step_times(times: Times) -> str:
    """Of the extraction, one after another; where two threads were measured beside one, those too."""
    told = {
        "read": "reading both files",
        "combine": f"factorisation, rank {RANK}",
        "exact": f"exact, rank {2 * RANK}",
        "write": "writing as float16, reading back",
        "weights": "errors of the weights",
        "probe": "errors of the outputs",
    }
    rows = []
    for name, words in told.items():
        one, two = (times.median(f"{name} {threads}") if f"{name} {threads}" in times else None for threads in (1, 2))
        rows.append((words, span(times.median(name)), span(two) if two else "", f"{one / two:.2f} ×" if one and two else ""))
    return table(("step", "time", "two threads", "as fast as one beside"), rows)


def main() -> None:
    parser = options("combine", __doc__, rounds=3, quick="one round, the two smallest shapes, whose ratios are not those of all")
    parser.add_argument("--memory", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        print(peak_over_result(stack_of(arguments.memory)))
        return
    rounds, times = 1 if arguments.quick else arguments.rounds, Times(CLOCKS[arguments.clock])
    with tempfile.TemporaryDirectory(dir=arguments.work) as temporary:
        folder = Path(temporary)
        paths = [save_network(SDXL, folder / f"{seed}.safetensors", rank=RANK, seed=seed, decay=DECAY) for seed in range(2)]
        stack = stack_of(paths)
        shapes = distinct(stack[0][0], 2 if arguments.quick else None)
        around(stack, paths, folder, times, rounds)  # first: what follows finds everything warm
        errors, equal = beside(stack, shapes, times, rounds), lossless(list(shapes)[:_FEW])
        held, over = memory(paths, {}), memory(paths, _WHOLE_BLOCKS)
        # In cpu time two threads are never faster.
        same = two_threads(stack, times if arguments.clock == "wall" else Times(), rounds)
    rows, missed = beside_others(times, errors, shapes)
    largest = 4 * max(math.prod(layer.shape) for layer in shapes)
    missed += [] if over <= largest else [f"memory: {over / MIB:.0f} MiB over the result"]
    missed += [] if same else ["two threads give other bytes"]
    parts = [
        f"# Two networks of rank {RANK} as one of rank {RANK}: SDXL, {len(stack[0][0].adapters)} modules, {len(shapes)} shapes",
        f"Medians of {rounds} interleaved rounds, {arguments.clock} time; random networks whose values fall by {1 - DECAY:.0%} from rank "
        f"to rank, at {RATIOS[0]} and {RATIOS[1]}. {machine()}.",
        rows,
        "loraloom combines all modules; the others do one of each shape, times its count. kohya's script and SD.Next's extraction are "
        "re-enacted (benchmarks/combine_peers.py), PEFT is itself; kohya's and PEFT's have one round. Errors are relative to the exact sum "
        "in float64, of factors in float32, SD.Next's in bfloat16: what the rank leaves out is a part of all of them.",
        f"## Where nothing needs to be lost: two of rank {RANK // 2} as one of rank {RANK}",
        table(("", "error, from shape to shape"), [(name, equal.span(name)) for name in ("loraloom", *LOSSLESS)]),
        "kohya's script cuts off the largest hundredth of the values. SD.Next rounds to bfloat16, and takes the change from a difference "
        "of weights: in a bfloat16 base a part of a small change is gone by then.",
        "## The steps",
        step_times(times),
        f"Two threads give {'the same bytes as one' if same else 'OTHER BYTES than one'}. Besides its result, which is float32, a "
        f"combination takes at most {over / MIB:.0f} MiB (the largest layer has {largest / MIB:.0f} MiB); {held / MIB:.0f} MiB where the "
        "C library keeps freed pieces for later, as it does by default.",
    ]
    if missed:
        parts += ["## Missed", "\n".join(f"- {each}" for each in missed)]
    text = "\n\n".join(parts)
    print(text)
    if not arguments.quick:
        write_result("combine", f"{text}\n")
    if arguments.check and missed:
        sys.exit(1)


def distinct(file: LoraFile, most: int | None) -> Mapping[Layer, int]:
    """For each shape the first layer that has it, and how many have; the smallest first."""
    layers = [SDXL.base.by_target[target] for target in file.adapters]
    counts = Counter(layer.shape for layer in layers)
    first = {layer.shape: layer for layer in reversed(layers)}
    return {first[shape]: counts[shape] for shape in sorted(counts, key=math.prod)[:most]}


if __name__ == "__main__":
    main()
