"""A training step beside PEFT's and LyCORIS', and LoRA beside full fine-tuning.  `python -m benchmarks.training [--quick] [--check]`

SD 1.5 at full size with random weights, latents 32×32, batch 1, float32, rank 16 on the 192 modules of the UNet's transformers. Every
trainer has a process of its own on the same frozen weights, and every round runs a step of each, one after another in random order: a
ratio is always of two times of the same round. Peak memory is that of a fresh process each. Writes benchmarks/results/training.md.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from benchmarks.fullsize import SD1, open_base, save_base
from benchmarks.measured import CLOCKS, Clock, machine, options, span, table, write_result
from benchmarks.memory import MIB, peak, settled
from benchmarks.peers import silence
from benchmarks.trainers import TRAINERS, Job

OURS, PEFT, LYCORIS, FASTEST, FULL = "loraloom LoRA", "PEFT LoRA", "LyCORIS LoRA", "LyCORIS LoRA, bypass_mode", "full fine-tuning"
TYPES = ("DoRA", "LoHa", "LoKr")
STEP, MEMORY, OVER_LYCORIS = 1.03, 1.01, 1.15  # goals: at most, at most, at least
STEPS_FOR_PEAK = 2  # the optimiser's tensors are there from the end of the first on
Seconds = Mapping[str, Sequence[float]]


class Apart:
    """A trainer in a process of its own, which waits after each step; the weights are a file's, and in memory once for all."""

    def __init__(self, name: str, job: Job, folder: Path, clock: str) -> None:
        self._process = subprocess.Popen(
            [*command(name, job, folder, clock), "--held"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._seconds()  # until the first step was made, which is not counted

    def step(self) -> float:
        """Seconds of one more."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._seconds()

    def close(self) -> None:
        self._process.communicate()

    def _seconds(self) -> float:
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


def held(name: str, job: Job, folder: Path, clock: Clock) -> None:
    """The other side of `Apart`: a line on stdin is a step, and its seconds are a line on stdout."""
    started = clock()

    def after_step() -> bool:
        nonlocal started
        print(clock() - started, flush=True)
        wanted = bool(sys.stdin.readline())
        started = clock()
        return wanted

    with tempfile.TemporaryDirectory() as own:
        TRAINERS[name](open_base(SD1, folder / "base"), job, Path(own)).run(after_step)


def timed(names: Sequence[str], job: Job, folder: Path, rounds: int, clock: str) -> Seconds:
    """Every trainer once in each round, in random order."""
    trainers = {name: Apart(name, job, folder, clock) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    dice = random.Random(0)
    for _ in range(rounds):
        for name in dice.sample(names, len(names)):
            seconds[name].append(trainers[name].step())
    for trainer in trainers.values():
        trainer.close()
    return seconds


def ratio(seconds: Seconds, name: str, other: str) -> tuple[float, float, float]:
    """Median ratio of the rounds, and both ends of its 90 % interval (bootstrap): each is a one-sided bound of 95 %."""
    ratios = np.array(seconds[name]) / np.array(seconds[other])
    medians = np.median(np.random.default_rng(0).choice(ratios, (4000, len(ratios))), axis=1)
    return float(np.median(ratios)), float(np.quantile(medians, 0.05)), float(np.quantile(medians, 0.95))


def measure(name: str, job: Job, folder: Path, clock: Clock) -> dict[str, float]:
    """Bytes and seconds of one trainer in this process, which has done nothing else."""
    pipeline = open_base(SD1, folder / "base")
    times: list[float] = []

    def after_step() -> bool:
        times.append(clock())
        return len(times) < STEPS_FOR_PEAK

    with tempfile.TemporaryDirectory() as own:
        before = settled()
        with peak() as highest:
            trainer = TRAINERS[name](pipeline, job, Path(own))
            trainer.run(after_step)
        size = asdict(trainer.size()) if not job.checkpointing else {}
    return {"peak": highest[0] - before, "seconds": times[-1] - times[-2], **size}


def command(name: str, job: Job, folder: Path, clock: str) -> list[str]:
    """What runs one trainer in a process of its own."""
    found = [sys.executable, "-m", "benchmarks.training", "--case", name, "--side", str(job.side), "--work", str(folder), "--clock", clock]
    return [*found, "--threads", str(torch.get_num_threads()), *(["--checkpointing"] if job.checkpointing else [])]


def apart(name: str, job: Job, folder: Path, clock: str = "wall") -> dict[str, float] | None:
    """`measure` in a process of its own; None where it did not come to its end, as for want of memory."""
    done = subprocess.run(command(name, job, folder, clock), check=False, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return found or None


def lora(seconds: Seconds) -> tuple[str, list[str]]:
    """The table of LoRA in all of them, and what is missed."""
    lines, missed = [], []
    goals = {PEFT: ("upper bound", STEP), LYCORIS: ("lower bound", OVER_LYCORIS), FASTEST: ("", 0.0)}
    for other, (bound, goal) in goals.items():
        if other == PEFT:
            middle, low, high = ratio(seconds, OURS, other)
            verdict, good = f"≤ {goal}", high <= goal
            shown = (f"ours / {other}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}")
        else:
            middle, low, high = ratio(seconds, other, OURS)
            verdict, good = f"≥ {goal}" if goal else "", not goal or low >= goal
            shown = (f"{other} / ours", f"{middle:.3f}", f"{low:.3f} to {high:.3f}")
        lines.append((*shown, f"{bound} {verdict} {'met' if good else 'MISSED'}" if goal else ""))
        missed += [] if good else [f"{shown[0]}: {middle:.3f} ({shown[2]}), the {bound} should be {verdict}"]
    return table(("median of the rounds", "ratio", "90 % interval", "goal"), lines), missed


def memory(folder: Path, side: int) -> tuple[str, list[str]]:
    """Peaks of LoRA, with and without gradient checkpointing, and what is missed."""
    lines, missed = [], []
    for checkpointing in (False, True):
        found = {name: apart(name, Job(side, checkpointing), folder) for name in (OURS, PEFT)}
        words = "with gradient checkpointing" if checkpointing else "as it is"
        if (ours := found[OURS]) is None or (theirs := found[PEFT]) is None:
            lines.append((words, *("no result" if each is None else f"{each['peak'] / MIB:,.0f} MiB" for each in found.values()), "", ""))
            missed.append(f"peak memory {words}: no result")
            continue
        part = ours["peak"] / theirs["peak"]
        shown = [f"{each['peak'] / MIB:,.0f} MiB" for each in (ours, theirs)]
        lines.append((words, *shown, f"{part:.3f}", f"≤ {MEMORY} {'met' if part <= MEMORY else 'MISSED'}"))
        missed += [] if part <= MEMORY else [f"peak memory {words}: {part:.3f} × PEFT's"]
    return table(("peak memory of a step", "loraloom", "PEFT", "ratio", "goal"), lines), missed


def fine_tuning(folder: Path, side: int, clock: str) -> str:
    """LoRA beside training every weight of the same UNet with the same optimiser."""
    lines = []
    for name in (OURS, FULL):
        found = apart(name, Job(side), folder, clock)
        if found is None:
            lines.append((name, "did not come to its end: not enough memory?", "", "", ""))
        else:
            size = f"{found['file'] / MIB:,.1f} MiB"
            lines.append((name, f"{found['trained']:,.0f}", f"{found['peak'] / MIB:,.0f} MiB", span(found["seconds"]), size))
    return table(("what is trained", "parameters", "peak memory", "a step", "file in float16"), lines)


def types(seconds: Seconds) -> str:
    lines = []
    for kind in TYPES:
        names = [f"{who} {kind}" for who in ("loraloom", "PEFT", "LyCORIS")]
        medians = [float(np.median(seconds[name])) for name in names]
        lines.append((kind, *map(span, medians), *(f"{ratio(seconds, other, names[0])[0]:.2f} ×" for other in names[1:])))
    return table(("type", "loraloom", "PEFT", "LyCORIS", "PEFT / ours", "LyCORIS / ours"), lines)


def parser() -> argparse.ArgumentParser:
    found = options("training", __doc__, rounds=10, quick="latents 8×8, two rounds")
    found.add_argument("--side", type=int, default=32, help="of the latents")
    found.add_argument("--case", help=argparse.SUPPRESS)
    found.add_argument("--held", action="store_true", help=argparse.SUPPRESS)
    found.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    return found


def main() -> None:
    arguments = parser().parse_args()
    silence()
    torch.set_num_threads(arguments.threads)
    if arguments.case:
        job, clock = Job(arguments.side, arguments.checkpointing), CLOCKS[arguments.clock]
        if arguments.held:
            held(arguments.case, job, arguments.work, clock)
        else:
            print(json.dumps(measure(arguments.case, job, arguments.work, clock)))
        return
    side, rounds, few = (8, 2, 1) if arguments.quick else (arguments.side, arguments.rounds, 3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)) / SD1.family
        if not (folder / "base" / "model_index.json").is_file():
            save_base(SD1, folder / "base")
        job, clock = Job(side), arguments.clock
        seconds = timed((OURS, PEFT, LYCORIS, FASTEST), job, folder, rounds, clock)
        steps, missed = lora(seconds)
        others: dict[str, Sequence[float]] = {}
        for kind in TYPES:
            others |= timed([f"{who} {kind}" for who in ("loraloom", "PEFT", "LyCORIS")], job, folder, few, clock)
        peaks, also = memory(folder, side)
        beside = fine_tuning(folder, side, clock)
    medians = ", ".join(f"{name} {span(float(np.median(times)))}" for name, times in seconds.items())
    parts = [
        f"# Training steps: SD 1.5, rank 16, latents {side}×{side}, batch 1, float32",
        f"{rounds} interleaved rounds, {clock} time. {machine()}.",
        steps,
        f"Medians of a step: {medians}. loraloom keeps the memory that a layer frees for the next one (train/allocator.py); the others' "
        "processes give it back to the system, as they do by default.",
        peaks,
        f"Other types, {few} interleaved rounds:",
        types(others),
        "LoRA beside full fine-tuning of the same UNet, AdamW in both, a process each:",
        beside,
    ]
    missed += also
    if missed:
        parts += ["## Missed", "\n".join(f"- {text}" for text in missed)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not arguments.quick:
        write_result("training", text)
    if arguments.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
