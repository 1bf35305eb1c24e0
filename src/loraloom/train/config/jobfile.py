"""A job in a file: TOML or JSON, a line for each field of `TrainConfig`. Paths in it are relative to the file."""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from loraloom.errors import SettingsError
from loraloom.home import expanded
from loraloom.train.config.kohya import RENAMED, understood
from loraloom.train.config.option import MayBePath
from loraloom.train.config.train import TrainConfig

ENDINGS = (".toml", ".json")


@dataclass(frozen=True)
class JobFile:
    path: Path
    text: str
    values: Mapping[str, Any]  # by field; nothing is checked yet

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises SettingsError with the line of what is no TOML or no JSON."""
        path = expanded(path)
        if path.suffix.lower() not in ENDINGS:
            raise SettingsError(f"{path}: a job is read from a .toml or .json file")
        try:
            text = path.read_text("utf-8-sig")
            values = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
        except FileNotFoundError as error:
            raise SettingsError(f"{path} does not exist") from error
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:  # both formats' errors say the line
            raise SettingsError(f"{path}: cannot be read as {path.suffix[1:].upper()}: {error}") from error
        if not isinstance(values, dict):
            raise SettingsError(f'{path}: expected one object, {{"pictures": "...", ...}}, found {text[:40].strip()}')
        return cls(path, text, understood(values))

    def anchored(self) -> dict[str, Any]:
        """The values, with paths that hold from anywhere."""
        return {name: self._anchored(name, value) for name, value in self.values.items()}

    def _anchored(self, name: str, value: Any) -> Any:
        field = TrainConfig.model_fields.get(name)
        if field is None:
            return value
        for mark in (each for each in field.metadata if isinstance(each, MayBePath)):
            return self._beside(value) if mark.names(value, self.path.resolve().parent) else value
        if Path in (field.annotation, *get_args(field.annotation)):
            if isinstance(value, list):
                return [self._beside(each) if isinstance(each, str) else each for each in value]
            return self._beside(value) if isinstance(value, str) else value
        return value

    def _beside(self, value: str) -> str:
        """As text: a separator at its end, which says that it is a folder, stays."""
        return os.path.join(self.path.resolve().parent, os.path.expanduser(value))  # noqa: PTH111, PTH118 - paths drop it

    def where(self, name: str) -> str:
        """`run.toml, line 5: ` for a name that stands in it, else nothing."""
        if name not in self.values:
            return ""
        word = "(?:" + "|".join(map(re.escape, (name, *(theirs for theirs, ours in RENAMED.items() if ours == name)))) + ")"
        key = rf'^\s*\[*\s*["\']?{word}["\']?\s*[=.\]]' if self.path.suffix.lower() == ".toml" else rf'"{word}"\s*:'
        found = re.search(key, self.text, re.MULTILINE)
        line = f", line {self.text.count(chr(10), 0, found.end()) + 1}" if found else ""
        return f"{self.path}{line}: "
