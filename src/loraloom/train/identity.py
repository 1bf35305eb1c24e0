"""What a run writes where, and what must not change when it goes on."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraloom.dialects.folder import opened
from loraloom.errors import SettingsError
from loraloom.home import expanded
from loraloom.lazy import torch
from loraloom.train.config import ResolvedConfig
from loraloom.train.view import View

if TYPE_CHECKING:
    from torch import Tensor

# What a run that goes on may change: where it writes, what it shows, what it says about itself.
_FREE = {"pictures", "base", "output", "title", "author", "license", "description", "dialects", "dtype"}
_FREE |= {"masks", "regularization", "validation", "cache"}  # like pictures: what they hold is in the fingerprint, not where it lies
_FREE |= {
    "sample_file",
    "sample_prompts",
    "sample_every",
    "save_every",
    "validate_every",
    "keep",
    "keep_best",
    "keep_state",
    "resume",
    "overwrite",
}
_FREE |= {"preset"}  # its values are in other fields


_LONGEST = 200  # bytes of a name without its ending; of the 255 that file systems take, a run's longest endings are below 55


@dataclass(frozen=True)
class Paths:
    """What a run writes, all beside the output."""

    output: Path

    def beside(self, ending: str) -> Path:
        return self.output.with_name(self.output.stem + ending)

    def require_short(self) -> None:
        """Raises SettingsError for a name that no file system has room for with the endings that a run gives it."""
        if (length := len(os.fsencode(self.output.stem))) > _LONGEST:
            raise SettingsError(
                f"the name {self.output.name[:30]}... has {length} bytes, the limit is {_LONGEST} (letters other than Latin ones take "
                "two to four each); choose a shorter --output"
            )

    @property
    def state(self) -> Path:
        return self.beside(".state")

    @property
    def lock(self) -> Path:
        """Held by the run while it lasts."""
        return self.output.with_name(f".{self.output.stem}.lock")

    @property
    def log(self) -> Path:
        return self.beside(".log.jsonl")

    @property
    def plot(self) -> Path:
        return self.beside(".loss.png")

    @property
    def samples(self) -> Path:
        return self.beside(".samples")


@dataclass(frozen=True)
class Identity:
    """What a saved state must agree with before a run goes on from it."""

    config: Mapping[str, Any]  # the settings that decide the result, as JSON
    base: str  # sha256
    pictures: Mapping[str, Mapping[str, str]]  # `Dataset.pieces`

    @classmethod
    def of(cls, job: ResolvedConfig, seen: View, pictures: Mapping[str, Mapping[str, str]]) -> "Identity":
        free = _FREE | ({"steps"} if job.scheduler == "constant" else set())  # a constant learning rate may go on for longer
        settings = {name: value for name, value in job.model_dump(mode="json").items() if name not in free}
        if job.warm_start is not None:
            settings["warm_start"] = [part.header.content_hash() for part in opened(expanded(job.warm_start))]
        return cls(settings, fingerprint(seen), pictures)

    @property
    def session(self) -> str:
        """A number of this run, in every file of it as kohya's ss_session_id: a run that begins again after a kill knows its own."""
        digest = hashlib.sha256(json.dumps([self.config, self.base, self.pictures], sort_keys=True).encode()).digest()
        return str(int.from_bytes(digest[:4], "big"))


def fingerprint(seen: View) -> str:
    """sha256 over every weight that training sees, and over what the base predicts from which noise."""
    digest = hashlib.sha256(seen.prediction.encode())
    digest.update(_bytes(seen.alphas_cumprod))
    for name, root in seen.frozen.items():
        for key, tensor in sorted(root.state_dict().items()):
            digest.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: "Tensor") -> memoryview:
    content: memoryview = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return content
