"""The state of a run: enough to go on as if nothing had happened, bit for bit. JSON and safetensors, no pickle.

`NAME.state/step-000100/` holds `state.json`, `adapters.safetensors` (float32, not the published cast), `optimizer.safetensors` and the
seal of these. A state is written under another name and renamed when it is complete; only then the one before it goes.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraloom import tensorfile
from loraloom.atomic import is_full, sync_folder
from loraloom.errors import LoraError, TrainingError, WriteFailed
from loraloom.lazy import torch
from loraloom.tensorfile import Header
from loraloom.train.seal import NAME as SEAL
from loraloom.train.seal import require_whole, seal

if TYPE_CHECKING:
    from torch import Tensor

_COMPLETE = re.compile(r"step-[0-9]{1,18}")
_FIELDS = ("step", "config", "base", "pictures", "machine", "record", "optimizer")  # in state.json
_PARTS = {"adapters": "adapters", "moments": "optimizer"}  # file of each set of tensors
_NAMED = 20  # pictures, of any number
_PACKAGES = ("loraloom", "torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class State:
    """A run after `step` steps."""

    step: int
    config: Mapping[str, Any]  # what decides the result, as JSON
    base: str  # fingerprint of the base's weights
    pictures: Mapping[str, Mapping[str, str]]  # what decides the result of each: `Dataset.pieces`
    machine: Mapping[str, str]
    record: Mapping[str, Any]  # what else the run remembers, as JSON
    adapters: "Mapping[str, Tensor]"  # by "target.field", float32
    moments: "Mapping[str, Tensor]"  # the optimiser's tensors and the average's (`Stepper.taken`)
    optimizer: Mapping[str, Any]  # the optimiser's numbers and the loss scale

    @property
    def run(self) -> str:
        """sha256 of what the run is: states of one run have the same."""
        told = json.dumps([self.config, self.base, self.pictures], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


def machine() -> Mapping[str, str]:
    """What else decides the last bit of a sum."""
    found = {"threads": str(torch.get_num_threads())}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "?"
    return found


def save(folder: Path, state: State) -> Path:
    """Write the state, then remove older ones. Raises WriteFailed; the state before is untouched then, and can be gone on from."""
    final = folder / f"step-{state.step:06d}"
    partial = folder / f".{final.name}.partial"
    before = _complete(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        if final.exists():
            return final
        partial.mkdir()
        for part, name in _PARTS.items():
            tensorfile.write(partial / f"{name}.safetensors", getattr(state, part), {})
        _write_json(partial / "state.json", _as_json(state))
        seal(partial, run=state.run, step=state.step)
        sync_folder(partial)
        partial.rename(final)
        sync_folder(folder)
    except OSError as error:
        raise _unsaved(final, before, error) from error
    except WriteFailed as error:
        if isinstance(error.__cause__, OSError):
            raise _unsaved(final, before, error.__cause__) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for older in _complete(folder)[:-1]:
        _drop(older)
    return final


def _unsaved(final: Path, before: list[Path], error: OSError) -> WriteFailed:
    advice = "free some space" if is_full(error) else "check the folder and its permissions"
    left = f"--resume goes on from {before[-1].name}" if before else "there is no earlier state, so the run must start anew"
    return WriteFailed(f"{final}: the training state could not be saved: {error.strerror or error}; {advice}; {left}")


def newest(folder: Path) -> State | None:
    """The newest complete state, or None. Raises TrainingError that names the file for one that is not what was saved, and says from
    which other one the run can go on."""
    found = _complete(folder)
    if not found:
        return None
    try:
        return _whole(found[-1])
    except (OSError, LoraError) as error:
        raise TrainingError(f"{error}. {_instead(found)}") from error


def _whole(path: Path) -> State:
    step = _step(path)
    run = require_whole(path, step)
    fields = json.loads((path / "state.json").read_text(encoding="utf-8"))
    tensors: dict[str, Any] = {part: _tensors(path / f"{name}.safetensors") for part, name in _PARTS.items()}
    state = State(**{name: fields[name] for name in _FIELDS}, **tensors)
    if state.run != run or state.step != step:
        raise TrainingError(f"{path}: state.json and {SEAL} are of different runs")
    return state


def _instead(found: list[Path]) -> str:
    """What to do where the newest of these states is damaged."""
    for older in reversed(found[:-1]):
        with suppress(OSError, LoraError):
            _whole(older)
            return f"{older.name} is whole: delete {found[-1].name}, and --resume goes on from there"
    return "No other state is there, so the run cannot go on: put the file back, or start again with --overwrite"


def exists(folder: Path) -> bool:
    return bool(_complete(folder))


def remove(folder: Path) -> None:
    """All states of a run that needs them no more."""
    for path in _complete(folder):
        _drop(path)
    if folder.is_dir():
        _remove_leftovers(folder)
        if not any(folder.iterdir()):
            folder.rmdir()


def check_same_run(folder: Path, saved: State, *, config: Mapping[str, Any], base: str, pictures: Mapping[str, Mapping[str, str]]) -> None:
    """Raises TrainingError naming both values where the state is of another run."""
    advice = "use the options it began with, or start anew with --overwrite"
    for name in dict.fromkeys((*config, *saved.config)):
        before, now = saved.config.get(name), config.get(name)
        if before != now:
            raise TrainingError(f"{folder} was begun with {name} = {before!r}, this run has {now!r}; {advice}")
    if saved.base != base:
        raise TrainingError(f"{folder} was begun with another base model (sha256 {saved.base[:12]}, now {base[:12]}); {advice}")
    if changed := list(_changed(saved.pictures, pictures)):
        more = f"\n  and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        named = "".join(f"\n  {line}" for line in changed[:_NAMED])
        raise TrainingError(
            f"{folder} was begun with other pictures and captions:{named}{more}\nput them back, or start anew with --overwrite"
        )


def _changed(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A line for each picture that is not what it was."""
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            yield f"{name} is gone"
        elif name not in before:
            yield f"{name} is new"
        elif parts := [part for part in sorted({**before[name], **now[name]}) if before[name].get(part) != now[name].get(part)]:
            yield f"{name}: another {' and another '.join(parts)}"


def differences(saved: State, now: Mapping[str, str]) -> str:
    """`torch 2.12 -> 2.13, threads 2 -> 1`, or nothing if the machine is as it was."""
    names = sorted(saved.machine.keys() | now.keys())
    changed = [name for name in names if saved.machine.get(name) != now.get(name)]
    return ", ".join(f"{name} {saved.machine.get(name, '-')} -> {now.get(name, '-')}" for name in changed)


def _complete(folder: Path) -> list[Path]:
    """Oldest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _COMPLETE.fullmatch(path.name)), key=_step)


def _step(state: Path) -> int:
    return int(state.name.removeprefix("step-"))


def _drop(state: Path) -> None:
    """Renamed first: what is half removed must not look complete."""
    gone = state.with_name(f".{state.name}.old")
    shutil.rmtree(gone, ignore_errors=True)
    state.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name.startswith(".step-") and path.suffix in (".partial", ".old"):
            shutil.rmtree(path, ignore_errors=True)


def _tensors(path: Path) -> "dict[str, Tensor]":
    with tensorfile.open_tensors(Header.read(path)) as tensors:
        return {name: tensors[name].clone() for name in tensors}


def _as_json(state: State) -> dict[str, Any]:
    return {name: getattr(state, name) for name in _FIELDS}


def _write_json(path: Path, value: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
