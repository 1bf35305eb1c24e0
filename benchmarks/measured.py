"""What the benchmarks share: times of interleaved rounds, tables in markdown, and what the machine is."""

import argparse
import gc
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
Clock = Callable[[], float]
CLOCKS: Mapping[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
DEVICES = ("cpu", "cuda")
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_fp16")
_PEERS = ("torch", "diffusers", "transformers", "peft", "safetensors", "lycoris-lora")


def options(program: str, described: str | None, *, rounds: int, quick: str) -> argparse.ArgumentParser:
    """What every timing program takes; `quick` says what a run of its option leaves out."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{program}", description=described)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=rounds, help="of each ratio")
    parser.add_argument("--quick", action="store_true", help=f"{quick}, nothing written: to see that it runs")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for a machine that is busy with other things")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the base is")
    parser.add_argument("--work", type=Path, help="keep the random base in this folder and use it again")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal is missed")
    return parser


def clock_of(arguments: argparse.Namespace) -> Clock:
    """The clock of these options; on a GPU it waits until the GPU has done what it was given."""
    clock = CLOCKS[arguments.clock]
    if arguments.device == "cpu":
        return clock

    def waited() -> float:
        torch.cuda.synchronize()
        return clock()

    return waited


def write_result(name: str, text: str, device: str = "cpu") -> None:
    """A page under results/; runs of several threads and on other devices have pages of their own."""
    threads = torch.get_num_threads()
    RESULTS.mkdir(exist_ok=True)
    suffix = f"_{device}" if device != "cpu" else "" if threads == 1 else f"_{threads}_threads"
    (RESULTS / f"{name}{suffix}.md").write_text(text, "utf-8")


class Times:
    """Seconds by name, a list for each: one of every round."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Time of the body, counted under `name`."""
        gc.collect()
        started = self._clock()
        yield
        self._seconds[name].append(self._clock() - started)

    def median(self, name: str) -> float:
        return statistics.median(self._seconds[name])

    def __contains__(self, name: str) -> bool:
        return name in self._seconds

    def __getitem__(self, name: str) -> list[float]:
        return self._seconds[name]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, aligned, so that it reads in a terminal as well."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines)


def span(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms" if seconds >= 0.001 else f"{seconds * 1000:.3f} ms"


def machine(device: str = "cpu") -> str:
    """The facts that a time depends on: processors, threads, versions. No names of hosts, people or folders."""
    found = Path("/proc/cpuinfo")
    flags = found.read_text("utf-8").split() if found.is_file() else []
    features = [name for name in _FEATURES if name in flags] or ["unknown instructions"]
    versions = [f"{name} {installed}" for name in _PEERS if (installed := _version(name))]
    system = f"{platform.system()} {platform.machine()}"
    processor = f"{system}, {', '.join(features)}, {torch.get_num_threads()} threads"
    gpu = f"{torch.cuda.get_device_name()}; " if device == "cuda" else ""
    return f"{gpu}{processor}; Python {platform.python_version()}, {', '.join(versions)}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
