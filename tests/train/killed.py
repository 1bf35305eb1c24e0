"""Trains in children that kill themselves at the n-th write of their saves, resumes each, and prints the hashes.

Children are forks of a process that has imported everything and trained nothing: importing takes longer than training.
"""

import signal
import sys
from pathlib import Path

import matplotlib.figure  # noqa: F401 - imported once, before the forks
import torch

import loraloom.train.trainable  # noqa: F401 - the same
from loraloom.bases import NANO
from loraloom.bases.nano import model
from loraloom.train import Progress, TrainConfig, train

sys.path.append(str(Path(__file__).parent.parent))  # killing.py
from killing import deadly, die, forked


def job(pictures: Path, output: Path, *, resume: bool = False) -> TrainConfig:
    written = output.with_suffix(".safetensors").exists()  # killed after the file, before its state was removed
    paths = {"pictures": pictures, "output": output, "overwrite": written, "resume": resume}
    return TrainConfig(**paths, trigger="zvz", base="nano", steps=7, save_every=2, flip=True, dtype="float32")


def main(pictures: Path, folder: Path, points: list[int]) -> None:
    torch.set_num_threads(1)
    nano = model.load()
    print("straight", flush=True, end=" ")
    forked(lambda: print(train(job(pictures, folder / "straight"), nano, NANO).hash))
    for point in points:
        output = folder / f"at{point}"

        def run(point: int = point, output: Path = output) -> None:
            if point:
                deadly(point)

            def between(now: Progress) -> None:
                if not point and now.stage == "train" and now.step == 5:
                    die()

            train(job(pictures, output), nano, NANO, progress=between)

        ended = forked(run)
        if ended == -signal.SIGKILL:
            print(point, flush=True, end=" ")
            forked(lambda output=output: print(train(job(pictures, output, resume=True), nano, NANO).hash))  # type: ignore[misc]
        else:
            print(f"{point} not-killed-but-{ended}" if ended else f"{point} finished-before", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(point) for point in sys.argv[3:]])
