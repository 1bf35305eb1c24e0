"""Commands that write a LoRA, killed at each of their writes in turn (or after random times), and then run again.

Prints one JSON object a run: what lay in the folder after the kill, and after the same command was run to its end.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from killing import deadly, forked
from loraloom.catalogue import scan
from loraloom.cli import main
from loraloom.errors import LoraError
from loraloom.tensorfile import Header

OUT = "./out.safetensors"
FEW = [("extract", True), ("edit", True)]  # with a file in its place before, or none
MORE = [("extract", False), ("convert", True), ("convert", False), ("prune", True), ("prune", False)]
COMMANDS = {
    "extract": ("extract", "<lora:ink:0.8><lora:neon:0.4>", OUT, "--overwrite"),
    "convert": ("convert", "ink.safetensors", OUT, "--dialect", "peft", "--overwrite"),
    "edit": ("edit", OUT, "--title", "Ink"),
    "prune": ("edit", "ink.safetensors", OUT, "--only", "unet", "--overwrite"),
}


def command(name: str) -> None:
    sys.argv = ["loraloom", *COMMANDS[name], "--lora-folder", "."]
    try:
        main()
    except SystemExit as leaving:
        if leaving.code:
            raise


def state(folder: Path) -> dict[str, Any]:
    """`whole`: every file that a scan takes for a LoRA can be read."""
    seen = [item.path for item in scan([folder])]
    out = folder / OUT
    try:
        whole = all(Header.read(path).entries for path in seen)
    except LoraError:
        whole = False
    return {
        "seen": sorted(path.name for path in seen),
        "hidden": sorted(path.name for path in folder.iterdir() if path.name.startswith(".")),
        "out": hashlib.sha256(out.read_bytes()).hexdigest() if out.exists() else "",
        "whole": whole,
    }


def killed(name: str, source: Path, folder: Path, kill: Callable[[], object], *, there: bool) -> int:
    """Run it in a folder of its own until it is killed, then to its end; the exit status of the first run."""
    shutil.copytree(source, folder)
    if not there:
        (folder / OUT).unlink()

    def run() -> None:
        kill()
        command(name)

    os.chdir(folder)
    before = state(folder)
    ended = forked(run)
    found = {"command": name, "there": there, "ended": ended, "before": before, "after": state(folder)}
    again = forked(lambda: command(name))
    print(json.dumps(found | {"again": again, "then": state(folder)}), flush=True)
    return ended


def each(source: Path, work: Path, runs: list[tuple[str, bool]]) -> None:
    """Every command at every write, until it ends before the next one."""
    for name, there in runs:
        point, ended = 1, -signal.SIGKILL
        while ended == -signal.SIGKILL:
            folder = work / f"{name}-{there}-{point}"
            ended = killed(name, source, folder, lambda point=point: deadly(point), there=there)  # type: ignore[misc]
            point += 1


def at_random(source: Path, work: Path, count: int) -> None:
    for number in range(count):
        name, seconds = random.choice(list(COMMANDS)), random.uniform(0.001, 0.4)
        kill = lambda seconds=seconds: signal.setitimer(signal.ITIMER_REAL, seconds)  # noqa: E731 - ends it as SIGKILL does: no handler
        killed(name, source, work / f"{number}", kill, there=name == "edit" or random.random() < 0.5)


def warm(source: Path, folder: Path) -> None:
    """Everything is imported once, before the forks: that takes longer than the commands."""
    torch.set_num_threads(1)
    shutil.copytree(source, folder)
    os.chdir(folder)
    for name in COMMANDS:
        command(name)


if __name__ == "__main__":
    source, work, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    warm(source, work / "warm")
    if how.isdigit():
        at_random(source, work, int(how))
    else:
        each(source, work, {"few": FEW, "more": MORE}[how])
