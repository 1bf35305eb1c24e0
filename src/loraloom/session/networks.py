"""Parsed files, the last of them kept in memory and read anew when they change on the disk."""

from loraloom import dialects
from loraloom.catalogue import Item
from loraloom.engine import Fallback
from loraloom.generate.opened import Opened
from loraloom.generate.request import Drawing
from loraloom.lorafile import LoraFile, Stack
from loraloom.session.library import Named
from loraloom.session.recent import Recent

_BYTES = 2**30  # of parsed files, kept at once: five large SDXL networks, or a thousand of tiny's


class Networks:
    """Files as one base runs them: parsed for its family, or as diffusers takes them."""

    def __init__(self) -> None:
        self._files = Recent[LoraFile](_BYTES, lambda file: file.nbytes)

    def stack(self, named: Named, opened: Opened, request: Drawing) -> Stack:
        """Every file read and checked, those at strength 0 too."""
        return tuple((self._read(item, opened, request), strength) for item, strength in named)

    def _read(self, item: Item, opened: Opened, request: Drawing) -> LoraFile:
        runner, force = opened.runner(request.loader), request.force
        if isinstance(runner, Fallback):
            return self._files.get((item.identity, runner.title, runner.titles, force), lambda: runner.read(item.path, force=force))
        base = runner.base
        return self._files.get((item.identity, base.family, force), lambda: dialects.read(item.path, base, force=force))
