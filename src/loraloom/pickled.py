"""`.pt`, `.ckpt` and `.bin` files, whose format can run code when it is opened: turned into safetensors in a process of their own.

The process opens them with `weights_only=True`, which allows tensors and plain containers only, and has limits of memory and time. This
process never unpickles anything: it reads the safetensors file that the other one wrote, as any other.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from loraloom import tensorfile
from loraloom.errors import FileError
from loraloom.lazy import torch
from loraloom.leftovers import aside

MAX_BYTES = 16 * 2**30
SECONDS = 300
_EMPTY = "it holds no tensors"
_SPARE = 2**30  # bytes beside three times the file: read, cloned, written
_NESTED = ("state_dict", "model", "lora", "params")  # where trainers put the tensors inside their checkpoints


class Opened(NamedTuple):
    path: Path  # a safetensors file, there as long as the context is
    left_out: tuple[str, ...]  # what the pickle held besides tensors


@contextmanager
def opened(path: Path, *, seconds: float = SECONDS) -> Iterator[Opened]:
    """The tensors of a pickle as a safetensors file in a folder that goes away. Raises FileError, with the reason."""
    size = _size(path)
    if size > MAX_BYTES:
        raise FileError(f"{path}: {size:,} bytes; the limit for a pickle is {MAX_BYTES:,}")
    with aside(Path(tempfile.gettempdir())) as folder:
        target = Path(folder) / f"{path.stem[:100]}.safetensors"
        # -P: a file called torch.py beside the user's LoRAs must not be imported.
        command = [
            sys.executable,
            "-P",
            "-m",
            "loraloom.pickled",
            str(path.resolve()),
            str(target),
            str(3 * size + _SPARE),
            str(int(seconds)),
        ]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 30, check=False)
        except subprocess.TimeoutExpired as error:
            raise FileError(f"{path}: opening it took longer than {seconds:.0f} s, so it was given up") from error
        if done.returncode != 0 or not target.is_file():
            raise FileError(f"{path}: {_why(done.returncode, done.stderr)}")
        yield Opened(target, tuple(json.loads(done.stdout)))


def _size(path: Path) -> int:
    with tensorfile.readable(path) as file:
        return os.fstat(file.fileno()).st_size


def _why(code: int, errors: str) -> str:
    """The sentence for a process that failed; torch names what a pickle asked for, and ends with its complaint."""
    for before in ("GLOBAL ", "Unsupported class "):
        if before in errors:
            asked = errors.partition(before)[2].split()[0][:100]
            return (
                f"asks Python for {asked} when it is opened, which a file of tensors never does: it was not opened. Get it as .safetensors"
            )
    if code < 0 or "MemoryError" in errors or "allocate memory" in errors:
        return "opening it takes more memory or time than its size allows; it is damaged, or made to harm"
    if _EMPTY in errors:
        return _EMPTY
    return "is not a file of tensors that torch wrote, or is damaged; it was not opened. Get it as .safetensors"


def main(source: str, target: str, room: int, seconds: int) -> list[str]:
    """The other process: the pickle's tensors written to `target`; the names of what is left out. It ends with whatever goes wrong."""
    torch.set_num_threads(1)  # torch is loaded before the limits are set: it takes more than a small file may
    _limit(room, seconds)
    with Path(source).open("rb") as file:  # by its name torch takes a pickle that is called .safetensors for what it is not
        tensors, left_out = _tensors(torch.load(file, map_location="cpu", weights_only=True, mmap=False))
    if not tensors:
        raise FileError(_EMPTY)
    tensorfile.write(target, tensors, {})
    return left_out


def _limit(room: int, seconds: int) -> None:
    """`room` bytes more than what is taken already, and `seconds` of the processor. Windows has no such limits."""
    with suppress(ImportError):
        import resource

        taken = (
            int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE") if Path("/proc/self/statm").is_file() else 0
        )
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if taken:
                resource.setrlimit(resource.RLIMIT_DATA, (taken + room, taken + room))


def _tensors(content: Any) -> tuple[dict[str, Any], list[str]]:
    """The tensors by name, numbers as tensors, and the names of what is neither."""
    for inside in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(inside), Mapping):
            content = content[inside]
    if not isinstance(content, Mapping):
        return {}, []
    found: dict[str, Any] = {}
    left_out: list[str] = []
    for key, value in content.items():
        name = str(key)
        if isinstance(value, bool) or not isinstance(value, int | float | torch.Tensor) or len(name) > tensorfile.MAX_NAME:
            left_out.append(name[:100])
        elif isinstance(value, torch.Tensor):
            found[name] = value.detach().to_dense().contiguous().clone()
        else:
            found[name] = torch.tensor(float(value))
    return found, left_out[:50]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
