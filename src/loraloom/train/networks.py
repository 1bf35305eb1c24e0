"""The LoRA files of a run: the finished one, those of earlier steps, the best. Each in every naming that was asked for, read back and
compared before it has its name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from loraloom import dialects
from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.dialects.publishing import publish
from loraloom.errors import DialectCannotHold, LoraError, SettingsError, Taken, WriteFailed
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header
from loraloom.train.config import ResolvedConfig
from loraloom.train.identity import Paths

BEST = "-best"
_WHOLE_FILES = "peft-folder"


@dataclass(frozen=True)
class Networks:
    job: ResolvedConfig
    base: Base
    paths: Paths
    session: str = ""  # ss_session_id: files that say it are ours; empty while it is not known, then nothing is

    def write(self, adapters: Mapping[Target, Adapter], told: Mapping[str, str], mark: str = "") -> tuple[Path, ...]:
        """One file for each dialect. Raises WriteFailed, DialectCannotHold; what was there is untouched then. A name that another file
        took since the run began stays that file's: Taken says so when every dialect is written, each under the name that it got."""
        file = LoraFile(adapters, {**told, "ss_session_id": self.session}, self.base.family)
        taken: list[Taken] = []
        for dialect, path in zip(self.job.dialects, self.of(mark), strict=True):
            try:
                publish(file, self.base, path, dialect, self.job.dtype, overwrite=self.job.overwrite or self._ours(path, None))
            except Taken as error:
                taken.append(error)
            except WriteFailed as error:
                reason = error.__cause__ if isinstance(error.__cause__, OSError) else None
                why = (reason.strerror if reason else None) or str(reason or error)
                raise WriteFailed(
                    f"{path}: the LoRA could not be written: {why}; the training state is kept, --resume tries again"
                ) from error
        if taken:
            first, *_ = taken
            raise Taken("; ".join(map(str, taken)), kept=first.kept, fields=first.fields)
        return self.of(mark)

    def has(self, mark: str, step: int) -> bool:
        """Whether these files are there already, of this run after this step."""
        return all(self._ours(path, step) for path in self.of(mark))

    def drop_old(self, step: int) -> None:
        """Of the files of earlier steps only the last `keep` stay; those of other runs are not touched."""
        if self.job.keep < 0:
            return
        name = re.compile(rf"{re.escape(self.paths.output.stem)}-(\d{{6,}})(\.[\w-]+)?\.safetensors")
        found = {path: int(match[1]) for path in self.paths.output.parent.iterdir() if (match := name.fullmatch(path.name))}
        ours = {path: at for path, at in found.items() if at <= step and self._ours(path, at)}
        for at in sorted(set(ours.values()))[: -self.job.keep or None]:
            for path in (path for path, other in ours.items() if other == at):
                path.unlink(missing_ok=True)

    def taken(self) -> Iterator[SettingsError]:
        """Files that the run will write, and that are there and neither ours nor given up."""
        for path, step in self.planned():
            if path.exists() and not (self.job.overwrite or self._ours(path, step)):
                yield SettingsError(f"{path} exists; choose another --output, or replace it with --overwrite")

    def planned(self) -> Iterator[tuple[Path, int | None]]:
        """Every file with its step; the best one's is not known."""
        yield from ((path, self.job.steps) for path in self.of())
        if self.job.keep_best:
            yield from ((path, None) for path in self.of(BEST))
        if self.job.keep:
            for step in range(self.job.save_every, self.job.steps, self.job.save_every):
                yield from ((path, step) for path in self.of(at(step)))

    def of(self, mark: str = "") -> tuple[Path, ...]:
        """`zvz.safetensors`; of a further dialect `zvz.peft.safetensors`; with a mark `zvz-best.safetensors`."""
        first = self.job.dialects[0]
        return tuple(self.paths.beside(f"{mark}{'' if dialect == first else f'.{dialect}'}.safetensors") for dialect in self.job.dialects)

    def _ours(self, path: Path, step: int | None) -> bool:
        try:
            told = Header.read(path).metadata
        except (LoraError, OSError):
            return False
        return bool(self.session) and told.get("ss_session_id") == self.session and (step is None or told.get("ss_steps") == str(step))


def told_of_zeros(adapters: Mapping[Target, Adapter], job: ResolvedConfig) -> str:
    """What is to be said of modules that the file's dtype makes zero, so that they change nothing; empty if there are none."""
    zero = {dtype: [target for target, adapter in adapters.items() if _is_zero(adapter, dtype)] for dtype in (job.dtype, "float32")}
    if not (idle := zero[job.dtype]):
        return ""
    many = "every module" if len(idle) == len(adapters) else f"{len(idle)} of {len(adapters)} modules"
    what = f"warning: {many} of this network is zero and changes nothing ({idle[0]})"
    if len(zero["float32"]) < len(idle):
        return f"{what}: what was learned is too small for {job.dtype}; write it with --dtype float32, or train with a higher --lr"
    return f"{what}: nothing was learned there; train with a higher --lr or more steps (the rate was {job.learning_rate:g})"


def _is_zero(adapter: Adapter, dtype: str) -> bool:
    """Whether all tensors that begin at zero are zero still."""
    late = [tensor for field, tensor in adapter.trainable().items() if field in adapter.late]
    return bool(late) and not any(bool(tensor.to(getattr(torch, dtype)).any()) for tensor in late)


def at(step: int) -> str:
    """The mark of a file of an earlier step."""
    return f"-{step:06d}"


def check_dialects(names: tuple[str, ...]) -> None:
    """Raises UnknownFormat for a dialect that is not known, DialectCannotHold for one that a run cannot write."""
    for name in names:
        if name == _WHOLE_FILES or not dialects.by_name(name).writes:
            known = ", ".join(each.name for each in dialects.DIALECTS if each.writes and each.name != _WHOLE_FILES)
            raise DialectCannotHold(f"dialect {name!r} is not what a run writes; it writes {known}. `loraloom convert` writes the others")
