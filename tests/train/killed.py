"""Trainings that are killed, gone on with, killed again and gone on with: a JSON object for each, of what lay there at its end.

    python tests/train/killed.py PICTURES FOLDER [--writes 3 8 | --writes all] [--random 200] [--seed 0]

`--writes` kills at these fsyncs and renames of the run (`all`: at each), `--random` after random times; the second kill is always at a
random time. The first object is that of a run that nobody disturbed. Children are forks of a process that has imported everything
and trained nothing: importing takes longer than training.
"""

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401 - imported once, before the forks
import torch

import loraloom.train.trainable  # noqa: F401 - the same
from loraloom.bases import NANO
from loraloom.bases.nano import model
from loraloom.tensorfile import Header
from loraloom.train import TrainConfig, checkpoint, train

sys.path.append(str(Path(__file__).parent.parent))  # killing.py
from killing import deadly, forked

STEPS, MOST_WRITES = 5, 1000


def job(pictures: Path, output: Path, *, resume: bool) -> TrainConfig:
    """Everything that a run can write: states, the log, the plot, the best, earlier steps, two namings."""
    chance = {"flip": True, "caption_dropout": 0.3, "noise_offset": 0.1, "validation_share": 0.3}
    files = {"save_every": 2, "keep": 1, "keep_best": True, "dialects": ("kohya", "peft"), "dtype": "float32"}
    paths = {"pictures": pictures, "output": output, "resume": resume}
    return TrainConfig(**paths, **chance, **files, trigger="zvz", base="nano", steps=STEPS, batch=8)  # type: ignore[arg-type]


def left(output: Path) -> dict[str, Any]:
    """Tensors of every LoRA, losses of the log, and whatever else is there."""
    found = sorted(output.parent.iterdir())
    log = output.parent / f"{output.name}.log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {
        "networks": {path.name: Header.read(path).content_hash() for path in found if path.suffix == ".safetensors"},
        "log": [{name: value for name, value in line.items() if name != "seconds"} for line in lines],
        "others": [path.name for path in found if path.suffix in (".jsonl", ".png") or checkpoint.exists(path)],
    }


class Trial:
    """Runs in a folder of their own."""

    def __init__(self, pictures: Path, folder: Path, nano: Any) -> None:
        self.pictures, self.output, self.nano = pictures, folder / "zvz", nano

    def run(self, kill: Callable[[], object] = lambda: None, *, resume: bool = False) -> int:
        def work() -> None:
            kill()
            train(job(self.pictures, self.output, resume=resume), self.nano, NANO)

        return forked(work)

    def show(self, name: str, kills: int) -> None:
        print(json.dumps({"name": name, "kills": kills, **left(self.output)}), flush=True)

    def killed(self, name: str, kill: Callable[[], object], again: Callable[[], object]) -> bool:
        """Run, be killed, go on, be killed again, go on to the end. False if the run had ended before the first kill."""
        ended = [self.run(kill)]
        if ended[0] == -signal.SIGALRM or ended[0] == -signal.SIGKILL:
            ended.append(self._go_on(again))
            if ended[-1] < 0:
                ended.append(self._go_on(lambda: None))
        bad = [code for code in ended if code > 0]
        self.show(f"{name}{' failed' if bad else ''}", sum(code < 0 for code in ended))
        return ended[0] != 0

    def _go_on(self, kill: Callable[[], object]) -> int:
        """A run that was killed after its file was published and its state removed is complete: there is nothing to go on with."""
        complete = self.output.with_suffix(".safetensors").exists() and not checkpoint.exists(self.output.with_suffix(".state"))
        return 0 if complete else self.run(kill, resume=True)


def after(seconds: float) -> Callable[[], object]:
    """Ends as kill -9 does: the signal has no handler, so nothing of Python runs."""
    return lambda: signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--writes", nargs="*", default=[])
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(1000))
    given = parser.parse_args()
    torch.set_num_threads(1)
    nano, chance = model.load(), random.Random(given.seed)
    started = time.perf_counter()
    straight = Trial(given.pictures, given.folder / "straight", nano)
    straight.run()
    straight.show("straight", 0)
    whole = time.perf_counter() - started
    for point in range(1, MOST_WRITES) if given.writes == ["all"] else map(int, given.writes):
        again = after(chance.uniform(0.1, 1) * whole)
        if not Trial(given.pictures, given.folder / f"write{point}", nano).killed(f"write {point}", lambda p=point: deadly(p), again):  # type: ignore[misc]
            break
    for number in range(given.random):
        first, second = (after(chance.uniform(0.05, 1) * whole) for _ in range(2))
        name = f"random {number} of seed {given.seed}"
        Trial(given.pictures, given.folder / f"random{number}", nano).killed(name, first, second)


if __name__ == "__main__":
    main()
