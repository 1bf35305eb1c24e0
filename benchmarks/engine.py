"""Attach, merge, swap, change and remove a network at full size.  `python -m benchmarks.engine [--base sd1|sdxl] [--quick] [--check]`

Peers: diffusers/PEFT, LyCORIS, the merges of kohya and SD.Next re-enacted, and a bare loop that reads the file and adds up @ down in
place, all in one run on one pipeline, medians of interleaved rounds. Writes benchmarks/results/engine_<base>.md, with a profile where
a goal is missed.
"""

import cProfile
import gc
import io
import pstats
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.fullsize import FULL_SIZES, FullSize, open_base, save_base, save_network
from benchmarks.measured import Times, clock_of, machine, options, span, table, write_result
from benchmarks.peers import (
    Peft,
    Saved,
    bare_loop,
    copies,
    copy_back,
    kohya_loop,
    lycoris_merge,
    sdnext_loop,
    sdnext_undo,
    silence,
    touched,
)
from loraloom.dialects import read
from loraloom.engine import Engine, Report
from loraloom.engine.live import weight_of
from loraloom.engine.plan import Wish
from loraloom.lorafile import LoraFile, Mix
from loraloom.schedule import Schedule
from loraloom.strength import Strength

RANKS = {"a": 32, "b": 16}
STRENGTH, OTHER = 0.8, 0.5
MODES: tuple[Wish, ...] = ("branch", "merge")


@dataclass(frozen=True)
class Row:
    """One job of the table, and what must hold: at least so many times faster than a peer, at most so many times a floor."""

    job: str
    ours: str
    peers: tuple[tuple[str, float], ...] = ()  # (name of the measured thing, how many times faster we must be)
    floor: tuple[str, float] | None = None
    limit: float | None = None  # seconds


def rows(full: FullSize) -> list[Row]:
    """quality.md's goals for this base."""
    sd1 = full.family == "sd1"
    loops = (("kohya's loop", 3.0), ("SD.Next's loop", 3.0), ("LyCORIS", 3.0)) if sd1 else ()
    merged = (("PEFT load + fuse", 6.0 if sd1 else 2.5), *loops)
    return [
        Row("file → attached, nothing merged", "attach branch", (("PEFT load", 8.0 if sd1 else 10.0),)),
        Row("file → merged", "attach merged", merged, ("bare loop", 1.5 if sd1 else 1.3)),
        Row("strength change, beside", "strength beside", (("PEFT set_adapters", 20.0),), limit=0.002),
        Row("swap of two attached, beside", "swap beside", (("PEFT set_adapters, other", 20.0),), limit=0.002),
        Row("swap by leaving and attaching, beside", "swap anew beside", (("PEFT unload + load", 8.0),)),
        Row("swap, merged", "swap merged", (("PEFT unfuse + fuse", 4.0),)),
        Row("strength change, merged", "strength merged", (("PEFT unfuse + fuse, same", 4.0),)),
        Row("removal from beside", "remove branch", (("PEFT unload", 1.0),)),
        Row("removal of a merge, bit for bit", "remove merged", (("PEFT unfuse", 1.0),), ("copy of the weights", 1.3)),
        Row("file → merged, base just opened", "first merge", (("PEFT first load + fuse", 1.0),)),
    ]


@dataclass
class Bench:
    """One base on disk with two networks, opened once."""

    full: FullSize
    folder: Path
    times: Times
    device: str

    def __post_init__(self) -> None:
        self.paths = {name: self.folder / f"{name}.safetensors" for name in RANKS}
        self.open()

    def open(self) -> None:
        """A fresh pipeline: none of its pages was written to."""
        self.pipeline: Any = None
        self.pipeline = open_base(self.full, self.folder / "base", self.device)
        self.modules = touched(self.pipeline, read(self.paths["a"], self.full.base), self.full.base)
        self.engine = Engine(self.pipeline, self.full.base)  # one for each pipeline that is open, as `Opened.engine` is
        self.saved = Saved(self.folder / "base", self.modules)
        self.peft = Peft(self.pipeline, tuple(self.full.text))

    def attach(self, path: Path, mode: Wish) -> AbstractContextManager[Report]:
        """From a path to a live network."""
        file = read(path, self.full.base)
        if len(file.adapters) != self.full.modules:
            raise ValueError(f"{len(file.adapters)} modules were read, expected {self.full.modules}")
        return self.engine.attached(Mix(((file, Strength.of(STRENGTH)),)), mode=mode)

    def ours(self) -> None:
        times, a, b = self.times, self.paths["a"], self.paths["b"]
        self.saved.restore()  # its pages of the checkpoint are in the memory then, whatever the system did with them meanwhile
        with ExitStack() as live:
            with times.of("attach branch"):
                live.enter_context(self.attach(a, "branch"))
            with times.of("remove branch"):
                live.close()
        with ExitStack() as live:
            with times.of("attach merged"):
                live.enter_context(self.attach(a, "merge"))
            with times.of("remove merged"):
                live.close()
        one, two = read(a, self.full.base), read(b, self.full.base)
        engine = self.engine
        self._changed("swap anew beside", engine, "branch", (one, STRENGTH), (two, STRENGTH))
        self._changed("swap merged", engine, "merge", (one, STRENGTH), (two, STRENGTH))
        self._changed("strength merged", engine, "merge", (one, STRENGTH), (one, OTHER))
        self._steps(engine, one, two)

    def _changed(self, name: str, engine: Engine, mode: Wish, before: tuple[LoraFile, float], then: tuple[LoraFile, float]) -> None:
        """From one file that is read already and live to another, or to another strength."""
        first, second = (Mix(((file, Strength.of(strength)),)) for file, strength in (before, then))
        with ExitStack() as live:
            live.enter_context(engine.attached(first, mode=mode))
            with self.times.of(name):
                live.close()
                live.enter_context(engine.attached(second, mode=mode))

    def _steps(self, engine: Engine, one: LoraFile, two: LoraFile) -> None:
        """Strengths by step: one write each. Step 4 was not run before, so nothing of it is known; step 2 warms the code up."""
        with engine.attached(Mix(((one, Strength(Schedule.ramp(STRENGTH, OTHER))),)), steps=4):
            engine.step(2)
            with self.times.of("strength beside"):
                engine.step(4)
        first, then = Strength(Schedule.ramp(STRENGTH, 0)), Strength(Schedule.ramp(0, STRENGTH))
        with engine.attached(Mix(((one, first), (two, then))), steps=4):
            engine.step(2)
            with self.times.of("swap beside"):
                engine.step(4)

    def others(self) -> None:
        times, peft, a, b = self.times, self.peft, self.paths["a"], self.paths["b"]
        with times.of("PEFT load + fuse"):
            with times.of("PEFT load"):
                peft.load(a)
            peft.use("a", STRENGTH)
            peft.fuse("a")
        if peft.count() != self.full.modules:
            raise ValueError(f"PEFT changed {peft.count()} modules, expected {self.full.modules}")
        with times.of("PEFT unfuse"):
            peft.unfuse()
        with times.of("PEFT unload + load"):
            peft.unload()
            peft.load(b)
        peft.load(a)
        peft.use("a", STRENGTH)
        with times.of("PEFT set_adapters"):
            peft.use("a", OTHER)
        with times.of("PEFT set_adapters, other"):
            peft.use("b", STRENGTH)
        peft.fuse("b")
        with times.of("PEFT unfuse + fuse"):
            peft.unfuse()
            peft.use("a", STRENGTH)
            peft.fuse("a")
        with times.of("PEFT unfuse + fuse, same"):
            peft.unfuse()
            peft.use("a", OTHER)
            peft.fuse("a")
        peft.unfuse()
        with times.of("PEFT unload"):
            peft.unload()
        self.saved.restore()

    def floors(self) -> None:
        with self.times.of("bare loop"):
            bare_loop(self.paths["a"], self.modules, STRENGTH)
        self.saved.restore()
        if self.full.dtype == torch.float32:  # in half precision these multiply as the model is stored: another result, for minutes
            self._loops()
        kept = copies(self.modules)
        with self.times.of("copy of the weights"):
            copy_back(self.modules, kept)

    def _loops(self) -> None:
        with self.times.of("kohya's loop"):
            kohya_loop(self.paths["a"], self.modules, STRENGTH)
        self.saved.restore()
        before = [weight_of(layer) for layer, _ in self.modules.values()]
        with self.times.of("SD.Next's loop"):
            sdnext_loop(self.paths["a"], self.modules, STRENGTH)
        sdnext_undo(self.modules, before)
        with self.times.of("LyCORIS"):
            changed = lycoris_merge(self.paths["a"], self.pipeline, STRENGTH)
        if changed != self.full.modules:
            raise ValueError(f"LyCORIS changed {changed} modules, expected {self.full.modules}")
        self.saved.restore()

    def first(self) -> None:
        """A merge right after opening also makes every touched page of the mapped base the process's own."""
        self.open()
        with ExitStack() as live, self.times.of("first merge"):
            live.enter_context(self.attach(self.paths["a"], "merge"))
        self.open()
        with self.times.of("PEFT first load + fuse"):
            self.peft.load(self.paths["a"])
            self.peft.use("a", STRENGTH)
            self.peft.fuse("a")
        self.open()
        self.saved.restore()  # makes the pages its own: the other jobs are of a base that is in use

    def memory(self) -> list[tuple[str, str, str, str]]:
        """Bytes of the GPU that an attached network takes: at most, while it is attached, and after its removal."""

        def mib(count: int) -> str:
            return f"{count / 2**20:.1f} MiB"

        def measured(who: str, live: AbstractContextManager[object]) -> tuple[str, str, str, str]:
            gc.collect()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            with live:
                peak, held = torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before
            gc.collect()
            return who, mib(peak), mib(held), mib(torch.cuda.memory_allocated() - before)

        own = read(self.paths["a"], self.full.base).nbytes
        ours = [measured(f"loraloom, {mode}", self._later(mode)) for mode in MODES]
        return [("the network", mib(own), "", ""), *ours, measured("PEFT", self._loaded())]

    @contextmanager
    def _later(self, mode: Wish) -> Iterator[None]:
        with self.attach(self.paths["a"], mode):
            yield

    @contextmanager
    def _loaded(self) -> Iterator[None]:
        self.peft.load(self.paths["a"])
        yield
        self.peft.unload()

    def profile(self, mode: Wish) -> str:
        """cProfile from the path to the live network."""
        profiler = cProfile.Profile()
        with ExitStack() as live:
            profiler.enable()
            live.enter_context(self.attach(self.paths["a"], mode))
            profiler.disable()
        text = io.StringIO()
        pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(12)
        return "\n".join(line for line in text.getvalue().splitlines() if line.strip())


def report(bench: Bench, rounds: str) -> tuple[str, bool]:
    """The page, and whether every goal is met."""
    lines, missed, times = [], [], bench.times
    for row in rows(bench.full):
        ours = times.median(row.ours)
        goals, cells = [], []
        for name, least in row.peers:
            if name in times:
                cells.append(f"{name} {span(times.median(name))}: {times.median(name) / ours:.1f} ×")
                goals.append((times.median(name) >= least * ours, f"≥ {least:g} × {name}"))
        if row.floor:
            name, most = row.floor
            cells.append(f"{name} {span(times.median(name))}: we take {ours / times.median(name):.2f} of it")
            goals.append((ours <= most * times.median(name), f"≤ {most:g} × {name}"))
        if row.limit:
            goals.append((ours <= row.limit, f"≤ {span(row.limit)}"))
        if bench.device != "cpu":  # quality.md has goals for a CPU alone
            goals = []
        missed += [f"{row.job}: {text}" for good, text in goals if not good]
        lines.append((row.job, span(ours), "; ".join(cells), "; ".join(f"{text} {'met' if good else 'MISSED'}" for good, text in goals)))
    full = bench.full
    parts = [
        f"# Engine at full size: {full.family}, {str(full.dtype).removeprefix('torch.')}, {full.modules} modules",
        f"Medians of {rounds}; random weights; float16 kohya files of rank {RANKS['a']} (attached, removed) and "
        f"{RANKS['b']} (swapped in). {machine(bench.device)}.",
        table(("job", "loraloom", "beside it", "goals"), lines),
    ]
    if bench.device == "cuda":
        parts += ["## Memory of the GPU", table(("", "at most", "attached", "after removal"), bench.memory())]
    if missed:
        parts += [
            "## Missed",
            "\n".join(f"- {text}" for text in missed),
            "## Where our time goes (a profiler slows Python down, and products not)",
        ]
        parts += [f"{mode}:\n\n```\n{bench.profile(mode)}\n```" for mode in MODES]
    return "\n\n".join(parts) + "\n", not missed


def main() -> None:
    parser = options("engine", __doc__, rounds=7, quick="two rounds")
    parser.add_argument("--base", choices=FULL_SIZES, default="sd1")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    silence()
    full, rounds = FULL_SIZES[arguments.base], 2 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)) / full.family
        if not (folder / "base" / "model_index.json").is_file():
            save_base(full, folder / "base")
        for seed, (name, rank) in enumerate(RANKS.items()):
            save_network(full, folder / f"{name}.safetensors", rank=rank, seed=seed)
        bench = Bench(full, folder, Times(clock_of(arguments)), arguments.device)
        for turn in range(rounds):
            bench.first()
            print(f"round {turn + 1} of {rounds}", file=sys.stderr)
            jobs = [bench.ours, bench.others, bench.floors]
            for job in jobs[turn % 3 :] + jobs[: turn % 3]:
                job()
        text, good = report(bench, f"{rounds} interleaved rounds, {arguments.clock} time")
    print(text)
    if not arguments.quick:
        write_result(f"engine_{full.family}", text, arguments.device)
    if arguments.check and not good:
        sys.exit(1)


if __name__ == "__main__":
    main()
