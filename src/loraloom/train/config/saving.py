"""A decided job as a file that can be run again: every field with its meaning, grouped as in the command's help."""

import json
import os
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from loraloom.atomic import make_folder, refuse_existing, replacing
from loraloom.errors import SettingsError
from loraloom.home import expanded
from loraloom.train.config.adapters import WHICH_ADAPTERS
from loraloom.train.config.jobfile import ENDINGS
from loraloom.train.config.option import MayBePath
from loraloom.train.config.resolved import ResolvedConfig
from loraloom.train.config.train import PARTS, TrainConfig

_ASKED = {"resume", "overwrite"}  # what one call is allowed to do, not what the job is
_HEAD = "A training job: loraloom train --config FILE. Options of the command count more than lines here; paths are relative to this file."
_WIDTH = 118


def save_config(job: ResolvedConfig, path: Path, *, given: Collection[str] = (), overwrite: bool = False) -> Path:
    """Write it as .toml with comments, or .json without; raises SettingsError for another ending, Taken, WriteFailed. `given` are the
    fields that the job's maker said: a warm start takes rank and type from its file where nobody did."""
    path = expanded(path)
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"{path}: a job is written as a .toml or .json file")
    refuse_existing(path, overwrite=overwrite)
    values = _values(job, path.resolve().parent)
    idle = _idle(values) | (WHICH_ADAPTERS if job.warm_start is not None and not WHICH_ADAPTERS & set(given) else set())
    text = (
        _toml(job, values, idle)
        if path.suffix.lower() == ".toml"
        else _json({name: value for name, value in values.items() if name not in idle and value is not None})
    )
    make_folder(path.parent)
    with replacing(path, overwrite=overwrite) as temporary, temporary.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return path


def _values(job: ResolvedConfig, folder: Path) -> dict[str, Any]:
    """By field, as TOML and JSON know them, in the order of the help."""
    found = job.model_dump(exclude=_ASKED)
    for name, field in TrainConfig.model_fields.items():
        if any(isinstance(each, MayBePath) and each.names(found[name]) for each in field.metadata):
            found[name] = Path(found[name])
    return {name: _plain(found[name], folder) for part in PARTS for name in part.model_fields if name in found}


def _plain(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        whole = expanded(value).resolve()
        return (whole.relative_to(folder) if whole.is_relative_to(folder) else whole).as_posix()
    return [_plain(each, folder) for each in value] if isinstance(value, tuple) else value


def _idle(values: dict[str, Any]) -> set[str]:
    """Decided values that a job must not give, because they have no effect in it: an alpha of convolutions that are not trained."""
    given, before = {"pictures": values["pictures"]}, 0
    while len(given) != before:  # one value may be what another one waits for
        before = len(given)
        for name in [name for name in values if name not in given]:
            if _accepted(given | {name: values[name]}):
                given[name] = values[name]
    return values.keys() - given.keys()


def _accepted(values: dict[str, Any]) -> bool:
    try:
        TrainConfig.model_validate(values)
    except ValidationError:
        return False
    return True


def _toml(job: ResolvedConfig, values: dict[str, Any], idle: set[str]) -> str:
    document = tomlkit.document()
    for line in textwrap.wrap(_HEAD, _WIDTH):
        document.add(tomlkit.comment(line))
    for part in PARTS:
        document.add(tomlkit.nl())
        if part.panel:
            document.add(tomlkit.comment(f"---- {part.panel}"))
        for name in (name for name in part.model_fields if name in values):
            for line in _comment(job, name):
                document.add(tomlkit.comment(line))
            if values[name] is None:
                document.add(tomlkit.comment(f"{name} is not set"))
            elif name in idle:
                document.add(tomlkit.comment(f"{name} = {tomlkit.item(values[name]).as_string()}  (without effect in this job)"))
            else:
                document.add(name, values[name])
    return tomlkit.dumps(document)


def _comment(job: ResolvedConfig, name: str) -> Iterator[str]:
    said = (TrainConfig.model_fields[name].description or "").split(" [default")[0]
    if name == "learning_rate":
        said += f"; here {job.learning_rate:g} · {job.alpha:g}/{job.rank} = {job.effective_rate:g}"
    yield from textwrap.wrap(said, _WIDTH)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
