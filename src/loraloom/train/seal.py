"""The seal of a saved state: which run and step it is of, and the sha256 of each of its files. Written last, checked before anything of
the state is used, so that what was changed, swapped, cut short or lost since is found and named."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from loraloom.errors import FileError, TrainingError
from loraloom.tensorfile import readable

NAME = "seal.json"
_FORMAT = 2  # of the state as a whole; states of format 1 had no seal
_CHUNK = 2**20  # bytes read at once
_IGNORED = ("Thumbs.db", "desktop.ini")  # what file managers leave anywhere; names that begin with a dot are ignored too


class _Seal(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    run: str
    step: int
    files: dict[str, str]  # sha256 by name


def seal(state: Path, *, run: str, step: int) -> None:
    """Seal every file of the folder. Raises OSError."""
    files = {path.name: _sha256(path) for path in _inside(state)}
    with (state / NAME).open("x", encoding="utf-8") as file:
        json.dump({"format": _FORMAT, "run": run, "step": step, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def require_whole(state: Path, step: int) -> str:
    """The run that the state is of. Raises TrainingError, naming the file, where the folder is not what was sealed, or where it was
    sealed as another step than its name says."""
    found = _read(state)
    if found.format != _FORMAT:
        raise TrainingError(f"{state}: written in format {found.format} of training states; this version of loraloom reads {_FORMAT}")
    if found.step != step:
        raise TrainingError(f"{state}: {NAME} is of step {found.step}, the folder's name says {step}; was it renamed, or copied here?")
    there = {path.name for path in _inside(state)}
    if lost := sorted(found.files.keys() - there):
        raise TrainingError(f"{state}: {', '.join(lost)} is missing")
    if strange := sorted(there - found.files.keys()):
        raise TrainingError(f"{state}: {', '.join(strange)} is not of this state; move it to another folder")
    for name, expected in sorted(found.files.items()):
        _require_same(state / name, expected)
    return found.run


def _require_same(path: Path, expected: str) -> None:
    try:
        now = _sha256(path)
    except FileError as error:
        raise TrainingError(str(error)) from error
    if now != expected:
        raise TrainingError(f"{path}: is not what the run saved (sha256 {now[:12]}, sealed as {expected[:12]}); it was changed or swapped")


def _read(state: Path) -> _Seal:
    path = state / NAME
    try:
        with readable(path) as file:
            return msgspec.json.decode(file.read(), type=_Seal)
    except FileError as error:
        if os.path.lexists(path):
            raise TrainingError(str(error)) from error
        raise TrainingError(f"{state}: {NAME} is missing: it was lost, or an earlier version of loraloom wrote this state") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrainingError(f"{path}: is damaged ({error})") from error


def _inside(state: Path) -> Iterator[Path]:
    return (path for path in state.iterdir() if path.name != NAME and not path.name.startswith(".") and path.name not in _IGNORED)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with readable(path) as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
