"""How long it takes to start: the command's help, and a server that answers.  `python -m benchmarks.startup [--rounds N] [--check]`

Each in a process of its own, in wall time, medians of several. Peers: an empty command of the same library (typer), and the smallest
server of the same library (FastAPI and uvicorn) with one route, both from the same environment. Writes benchmarks/results/startup.md.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable

from benchmarks.measured import RESULTS, machine, options, table

HELP_SECONDS, READY_SECONDS = 0.5, 3.0  # goals: quality.md §4
_COMMAND = "from loraloom.cli import main; main()"
_EMPTY_COMMAND = "import typer; typer.run(lambda: None)"
_EMPTY_SERVER = """
import socket, fastapi, uvicorn
app = fastapi.FastAPI()
app.get("/api/v1/health")(lambda: {"status": "ok"})
listening = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
"""


def command(program: str, *arguments: str) -> float:
    """Seconds from the start of a process to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def server(program: str, *arguments: str) -> float:
    """Seconds from the start of a process to its first answer."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"LORALOOM_LIBRARY_INDEX": f"{folder}/library.sqlite"}
        process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stdout is not None
            address = re.search(r"http://[^ \n]+", process.stdout.readline())
            assert address is not None
            with urllib.request.urlopen(f"{address.group()}/api/v1/health") as answer:
                answer.read()
            return time.perf_counter() - started
        finally:
            process.kill()
            process.wait()


def medians(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Of interleaved rounds, the first of which, for files that are not in memory yet, does not count."""
    found = [[measure() for measure in measures] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def _row(what: str, ours: float, peer: str, theirs: float, goal: float) -> list[str]:
    return [what, f"{ours:.2f}", peer, f"{theirs:.2f}", f"{ours / theirs:.1f}", f"{goal:g}"]


def main() -> None:
    given = options("startup", __doc__, rounds=9, quick="one round").parse_args()
    rounds = 1 if given.quick else given.rounds
    help_, bare_help = medians(rounds, lambda: command(_COMMAND, "--help"), lambda: command(_EMPTY_COMMAND, "--help"))
    ready, bare_ready = medians(rounds, lambda: server(_COMMAND, "serve", "--port", "0"), lambda: server(_EMPTY_SERVER))
    rows = (
        _row("`loraloom --help`", help_, "an empty typer command", bare_help, HELP_SECONDS),
        _row("`loraloom serve` answers", ready, "FastAPI and uvicorn with one route", bare_ready, READY_SECONDS),
    )
    lines = table(["from the start of the process", "s", "peer", "s", "ratio", "goal, s"], rows)
    text = f"# Starting\n\n{machine()}\n\nMedians of {rounds} rounds in turns, wall time.\n\n{lines}\n"
    print(text)
    if not given.quick:
        (RESULTS / "startup.md").write_text(text, "utf-8")
    if given.check and (help_ > HELP_SECONDS or ready > READY_SECONDS):
        sys.exit(1)


if __name__ == "__main__":
    main()
