"""Base models by name: opened, the last few kept; or their weights alone, read from their files."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from loraloom.basefile import BaseFile, open_base
from loraloom.bases import Base
from loraloom.bases.identify import family
from loraloom.bases.tiny.model import folder as tiny_folder
from loraloom.combine import Weights
from loraloom.errors import BaseError
from loraloom.filenames import stem
from loraloom.generate.opened import Opened
from loraloom.generate.pipeline import EMBEDDED, open_pipeline
from loraloom.home import expanded
from loraloom.lazy import torch
from loraloom.session.recent import Recent
from loraloom.settings import Settings

_PIPELINES = 2  # kept at once


class Asked(NamedTuple):
    """A base that was asked for by name. Without weights it says which modules there are, and no more."""

    base: Base
    weight: Weights | None = None


class Bases:
    """A base is a name of an embedded one, a folder, a checkpoint or a name on the hub; None is the settings' base."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = Recent[Opened](_PIPELINES)

    def name(self, base: str | None) -> str:
        return base or self._settings.base

    def open(self, base: str | None) -> Opened:
        """Opened anew where its files have changed. Raises BaseError."""
        source = self.name(base)
        path = _here(source)
        mark = path / "model_index.json" if path and path.is_dir() else path
        state = mark.stat().st_mtime_ns if mark and mark.exists() else 0
        return self._opened.get((source, state), lambda: self._make(source))

    def alone(self, base: str | None, held: "torch.dtype | None") -> Opened:
        """Opened for the caller alone, all but the VAE in the dtype `held`, None for the usual one. Raises BaseError."""
        return self._make(self.name(base), held)

    def _make(self, source: str, held: "torch.dtype | None" = None) -> Opened:
        path = _here(source)
        model = stem(path.resolve().name) if path else source
        return Opened(open_pipeline(source, held), model, self._settings.loader)

    @contextmanager
    def weights(self, source: str, *, opening: bool) -> Iterator[BaseFile]:
        """A base's weights from its files; `opening`: from the opened base where it has none here that can be read."""
        path = tiny_folder() if source == "tiny" else expanded(source)
        local = path.exists() and source != "nano"
        if not (local or opening or source in EMBEDDED):
            raise BaseError(f"{source}: no such folder or file; two checkpoints are compared where both are on this computer")
        with ExitStack() as stack:
            file = None
            if local:
                with nullcontext() if not opening else suppress(BaseError):
                    file = stack.enter_context(open_base(path))
            yield file or self.open(source).file

    @contextmanager
    def asked(self, base: str | None) -> Iterator[Asked | None]:
        """The base that a request names, with its weights unless the name is that of a family; None where it names none."""
        named = family(base) if base and base not in EMBEDDED and _here(base) is None else None
        if named is not None:
            yield Asked(named)
            return
        with self.weights(base, opening=True) if base else nullcontext() as found:
            yield Asked(found.base, found.weight) if found else None


def _here(source: str) -> Path | None:
    """The folder or file of a base on this computer; None for embedded ones and the hub's."""
    path = expanded(source)
    return path if source not in EMBEDDED and path.exists() else None
