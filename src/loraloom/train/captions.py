"""Captions: where they stand, the trigger in front, and what chance makes of them at a step.

Sources, the first that has one: `name.txt` or `name.caption`, the folder's `metadata.jsonl`, kohya's folder rule `10_name`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import DatasetError
from loraloom.lazy import torch
from loraloom.train.chance import Sample

ENDINGS = (".txt", ".caption")
LIST = "metadata.jsonl"
_FIELDS = ("text", "caption", "prompt")  # datasets' own name first


@dataclass(frozen=True)
class CaptionList:
    """A folder's metadata.jsonl: one object a line, `{"file_name": "a.png", "text": "..."}`."""

    path: Path
    by_name: Mapping[str, str]  # file name -> caption

    @classmethod
    def read(cls, folder: Path) -> "CaptionList":
        """Empty where the folder has none; raises DatasetError that names the line."""
        path = folder / LIST
        if not path.exists():
            return cls(path, {})
        lines = enumerate(read_text(path).splitlines(), 1)
        return cls(path, dict(_entry(path, number, line) for number, line in lines if line.strip()))


def _entry(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}, line {number}: not JSON ({error})") from error
    name = found.get("file_name") if isinstance(found, dict) else None
    caption = next((found[field] for field in _FIELDS if isinstance(found.get(field), str)), None) if name else None
    if not isinstance(name, str) or caption is None:
        raise DatasetError(f'{path}, line {number}: expected {{"file_name": "a.png", "text": "caption"}}, found {line[:80]}')
    return name, caption


def read_text(path: Path) -> str:
    """A text file as UTF-8, with or without a byte order mark; raises DatasetError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error


def one_line(text: str) -> str:
    return " ".join(text.split())


def with_trigger(caption: str, trigger: str) -> str:
    """The trigger in front, unless the caption has it as a whole word already."""
    if not trigger or _names(trigger, caption):
        return caption
    return f"{trigger}, {caption}" if caption else trigger


def _names(trigger: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", text, re.IGNORECASE) is not None


def at_step(caption: str, sample: Sample, *, trigger: str, dropout: float, shuffle: bool) -> str:
    """The caption that this sample is trained with: dropped, shuffled with the trigger's part first, or as it is."""
    if dropout and sample.chance("caption dropout") < dropout:
        return ""
    if not shuffle:
        return caption
    parts = [part.strip() for part in caption.split(",") if part.strip()]
    first = [part for part in parts if trigger and _names(trigger, part)]
    others = [part for part in parts if part not in first]
    order = torch.randperm(len(others), generator=sample.generator("caption shuffle")).tolist()
    return ", ".join([*first, *(others[index] for index in order)])
