"""The tests as other computers would run them.  `python tests/stress/machines.py [--times N] [PYTEST ARGUMENTS]`

Instruction sets by the switches of torch, MKL and oneDNN; one and two threads; an idle computer and one with four busy loops beside the
tests. Prints a row for each, with the tests that failed; exits 1 if any did. About seven minutes for an idle row on two cores.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

INSTRUCTIONS = {
    "own": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "sse4": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
THREADS, LOADS = (1, 2), (0, 4)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that never wait, beside the body."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def row(instructions: str, threads: int, load: int, arguments: list[str]) -> bool:
    """Run the tests so and print what came of it; whether all passed."""
    environment = os.environ | INSTRUCTIONS[instructions] | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "pytest", "--numprocesses", "auto", "--dist", "worksteal", *(arguments or ["-m", "not long"])]
    started = time.monotonic()
    with busy(load):
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
    minutes = (time.monotonic() - started) / 60
    print(
        f"{instructions:6} {threads} threads, load {load}: {minutes:5.1f} min, {', '.join(failed) or f'exit code {run.returncode}'}",
        flush=True,
    )
    return run.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--instructions", nargs="*", choices=INSTRUCTIONS, default=list(INSTRUCTIONS))
    parser.add_argument("--threads", nargs="*", type=int, default=THREADS)
    parser.add_argument("--loads", nargs="*", type=int, default=LOADS)
    given, arguments = parser.parse_known_args()
    rows = itertools.product(given.instructions, given.threads, given.loads)
    green = [row(*each, [argument for argument in arguments if argument != "--"]) for each in rows for _ in range(given.times)]
    sys.exit(0 if all(green) else 1)


if __name__ == "__main__":
    main()
