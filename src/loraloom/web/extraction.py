"""A mix that becomes one file of the library, as a job: a step is a module, and until the last one nothing is written."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom.errors import LoraError, WriteFailed
from loraloom.web import limits
from loraloom.web.api.models import ExtractRequest
from loraloom.web.shelves import Shelf
from loraloom.web.task import Task, text_bytes

if TYPE_CHECKING:
    from loraloom.catalogue import Item
    from loraloom.extracting import Extracted
    from loraloom.session import Session


_ROW_BYTES = 512  # of a module in a report, about


class ExtractTask(Task):
    """`found` is the report when it is done, `item` the new file in the library."""

    def __init__(
        self,
        request: ExtractRequest,
        base: str,
        shelf: Shelf,
        told: Callable[[str], None],
        shelve: "Callable[[Path], Item | None]",
    ) -> None:
        """`shelve` makes the new file known. Raises Taken."""
        super().__init__(base, told)
        self.request, self.shelf = request, shelf
        self.found: Extracted | None = None
        self.item: Item | None = None
        self._path = shelf.place(request.name, overwrite=request.overwrite)
        self._shelve = shelve
        self._began = 0.0

    @property
    def nbytes(self) -> int:
        rows = self.found.rows if self.found else ()
        return super().nbytes + sum(map(text_bytes, self.request.model_dump(mode="json").values())) + _ROW_BYTES * len(rows)

    def run(self, session: "Session") -> None:
        self._stop_if_asked()
        self._began = time.monotonic()
        request = self.request.model_copy(update={"base": self.base if self.request.base else None})
        try:
            found = session.extract(request, self._path, overwrite=request.overwrite, on_module=self._advance, room=limits.NETWORK_BYTES)
        except WriteFailed as error:
            raise type(error)(self._without_folder(error), fields=error.fields) from error
        self.notes = found.warnings
        try:
            self.item = self._shelve(self._path)
        except LoraError as error:
            self.notes = (*self.notes, f"the file is written, but the library could not be scanned: {error}")
        self.found = found

    def _advance(self, done: int, modules: int) -> None:
        """After each module: count it, and stop if that was asked for."""
        self._stop_if_asked()
        self.step, self.steps = done, modules
        took = time.monotonic() - self._began
        self._pace(done / took if took else 0.0)
        self._told(self.id)

    def _without_folder(self, error: LoraError) -> str:
        return str(error).replace(f"{self._path.parent}{os.sep}", "")
