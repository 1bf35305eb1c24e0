"""Parsed files, the last of them kept in memory and read anew when they change on the disk."""

from dataclasses import replace

from loraloom import dialects
from loraloom.engine import Fallback
from loraloom.generate.opened import Opened
from loraloom.generate.request import Drawing
from loraloom.lorafile import LoraFile, Stack
from loraloom.session.library import Named, Use
from loraloom.session.recent import Recent

_BYTES = 2**30  # of parsed files, kept at once: five large SDXL networks, or a thousand of tiny's


class Networks:
    """Files as one base runs them: parsed for its family, or as diffusers takes them."""

    def __init__(self) -> None:
        self._files = Recent[LoraFile](_BYTES, lambda file: file.nbytes)

    def stack(self, named: Named, opened: Opened, request: Drawing) -> Stack:
        """Every file read and checked, those at strength 0 too."""
        return tuple((self._read(use, opened, request), use.strength) for use in named)

    def _read(self, use: Use, opened: Opened, request: Drawing) -> LoraFile:
        item, called = use.item, use.called
        runner, force = opened.runner(request.loader), request.force
        if isinstance(runner, Fallback):
            known = (item.identity, called, runner.title, runner.titles, force)
            return self._files.get(known, lambda: replace(runner.read(item.path, force=force), called=called))
        base = runner.base
        key = (item.identity, called, base.family, force)
        return self._files.get(key, lambda: replace(dialects.read(item.path, base, force=force), called=called))
