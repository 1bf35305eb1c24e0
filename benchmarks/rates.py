"""What the engine's planner counts with (`_Rates` in engine/plan.py), on this machine.  `python -m benchmarks.rates [--threads N]`

Products: rank-32 sums added to 64 weights of 1280×1280 in place. Copies: bytes of the same weights that one pass reads and writes.
Call: a Linear with one network beside it against the same Linear, so small that its products cost nothing. Float32, medians.
"""

import argparse
import statistics
from collections.abc import Callable

import torch

from benchmarks.measured import CLOCKS, DEVICES, Clock, clock_of, machine, table
from loraloom.adapters import LoRA
from loraloom.bases import Target
from loraloom.engine.branch import Branches, Weighted
from loraloom.undo import Undo

WIDTH, RANK, WEIGHTS, SMALL = 1280, 32, 64, 16


def median(job: Callable[[], object], clock: Clock, rounds: int) -> float:
    seconds = []
    for _ in range(rounds + 1):
        started = clock()
        job()
        seconds.append(clock() - started)
    return statistics.median(seconds[1:])


def products(clock: Clock, device: str) -> float:
    """Floating-point operations a second of all threads, memory included."""
    weights = [torch.randn(WIDTH, WIDTH, device=device) for _ in range(WEIGHTS)]
    up, down = torch.randn(WIDTH, RANK, device=device), torch.randn(RANK, WIDTH, device=device)
    return 2 * RANK * WIDTH * WIDTH * WEIGHTS / median(lambda: [weight.addmm_(up, down) for weight in weights], clock, 9)


def copies(clock: Clock, device: str) -> float:
    """Bytes of a weight that one pass takes in a second."""
    source = torch.randn(WEIGHTS, WIDTH, WIDTH, device=device)
    target = torch.empty_like(source)
    return source.nbytes / median(lambda: target.copy_(source), clock, 9)


def call(clock: Clock, device: str) -> float:
    """Seconds of one call of one hook, its products aside."""
    layer, x = torch.nn.Linear(SMALL, SMALL, device=device), torch.randn(1, 1, SMALL, device=device)
    adapter = LoRA(down=torch.randn(1, SMALL), up=torch.randn(SMALL, 1))
    undo = Undo()
    branches = Branches(1, undo)

    def run() -> None:
        with torch.no_grad():
            for _ in range(1000):
                layer(x)

    plain = median(run, clock, 15)
    branches.add(Target("unet", ""), layer, [Weighted(adapter, 0, None)])
    branches.build()
    hooked = median(run, clock, 15)
    undo.run()
    return (hooked - plain) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rates", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for a machine that is busy with other things")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock, device = clock_of(arguments), arguments.device
    rows = (
        ("products", f"{products(clock, device) / 1e9:.0f} GFLOP/s"),
        ("copies", f"{copies(clock, device) / 1e9:.1f} GB/s"),
        ("call", f"{call(clock, device) * 1e6:.0f} us"),
    )
    print(machine(device), table(("rate", "measured"), rows), sep="\n\n")


if __name__ == "__main__":
    main()
