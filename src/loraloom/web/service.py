"""What all routes share: settings, rules, the library, the queue. One for each server; nothing here is global."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from loraloom.dialects.readers import naming
from loraloom.errors import LoraError, NotSupported, SettingsError
from loraloom.generate.request import ImageRequest
from loraloom.generate.save import save_numbered
from loraloom.prompts import parse_lenient
from loraloom.session import Session
from loraloom.settings import Settings
from loraloom.web import limits
from loraloom.web.access import Access
from loraloom.web.answers import WrongRequest
from loraloom.web.bases import KnownBase, find_base
from loraloom.web.curves import Curves
from loraloom.web.drawing import Asked, DrawTask, Part
from loraloom.web.entry import Entry
from loraloom.web.extraction import ExtractTask
from loraloom.web.feed import NETWORKS, Feed
from loraloom.web.held import Held
from loraloom.web.jobs import Jobs
from loraloom.web.limits import check_limits, check_mix_limits
from loraloom.web.shelves import Shelf, find_shelf, shelves

if TYPE_CHECKING:
    from concurrent.futures import Future
    from threading import Event

    from PIL.Image import Image

    from loraloom.catalogue import Catalogue, Item
    from loraloom.combine import CombineRequest, Curve
    from loraloom.generate.opened import BaseFacts
    from loraloom.web.api.models import ExtractRequest

log = logging.getLogger("loraloom.web")


@dataclass
class Service:
    """A server's state. `front` is the session of the routes: it looks into the library and never opens a base."""

    settings: Settings
    access: Access = field(default_factory=Access)
    lora_folders: Sequence[Path] = ()
    graceful_seconds: float = limits.GRACEFUL_SECONDS  # that a running job has to finish when the server stops

    def __post_init__(self) -> None:
        self.entry, self.feed = Entry(self.access), Feed()
        self.front = self.open_session()
        self.held, self._changing = Held(), Lock()
        self.jobs = Jobs(self.open_session, self.held, graceful_seconds=self.graceful_seconds)
        self.curves = Curves()
        self.chosen: str | None = None  # the WebUI API's checkpoint, where a client has set one
        self.facts: dict[str, BaseFacts] = {}  # of bases that have been open, by source

    def open_session(self) -> Session:
        """A session of its own for a thread. Names in prompts never reach the file system as paths."""
        return Session(self.settings, lora_folders=self.lora_folders, paths=False)

    @property
    def library(self) -> "Catalogue":
        """The library as its last scan saw it; for any thread."""
        return self.front.catalogue()

    def rescan(self) -> None:
        """See what has changed in the folders of LoRAs, and tell everybody."""
        self.library.rescan()
        self.feed.tell(NETWORKS)

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Keep these in the settings file, and use them from the next job on. Raises as Settings.save does."""
        with self._changing:  # what is kept and what is used change together
            kept = Settings.save(changes)
            self.settings = self.settings.model_copy(update={name: getattr(kept, name) for name in changes})
            self.front = self.open_session()
            self.jobs.renew()

    def base(self, name: str | None) -> KnownBase:
        """Raises NotFound with the list."""
        return find_base(self.settings, name)

    def about(self, base: KnownBase) -> "BaseFacts | None":
        """What is known of a base; None before its first job."""
        return self.facts.get(base.source)

    def learn(self, session: Session, source: str) -> "BaseFacts":
        """What the base does on its own; opens it. In the session's thread."""
        with self.held.opening(source):
            self.facts[source] = session.about(source)
        return self.facts[source]

    def submit(self, request: ImageRequest, *, parts: Sequence[Part] | None = None, save: bool = True) -> DrawTask:
        """Check a request and put it into the queue, as several parts if they are given. Raises WrongRequest with the place of a
        mistake in a prompt, NotFound for an unknown base, Busy.
        """
        check_limits(request)
        base = self.base(request.base)
        wanted = [Part(part.request.model_copy(update={"base": base.source}), part.finish) for part in parts or [Part(request)]]
        try:
            self.front.check(wanted[0].request)
        except LoraError as error:
            raise WrongRequest(error, request) from error
        asked = Asked(request, base.source, wanted, save)
        return self.jobs.submit(DrawTask(asked, self.feed.tell, self.learn, self.save))

    @property
    def shelves(self) -> tuple[Shelf, ...]:
        """The folders that new files may go into."""
        return shelves(self.settings, self.lora_folders)

    def extract(self, request: "ExtractRequest") -> ExtractTask:
        """Check a mix and its new file's place, and put the job into the queue. Raises WrongRequest with the place of a mistake in the
        mix, NotFound for an unknown base, SettingsError for an unknown folder, Taken, Busy.
        """
        base = self._checked(request)
        named = naming(request.tool, request.dialect)
        if named.folder or not named.writes:
            raise SettingsError(f"dialect: {named.title} is no naming that a server writes a file in")
        shelf = find_shelf(self.shelves, request.folder)
        return self.jobs.submit(ExtractTask(request, base.source, shelf, self.feed.tell, self._shelve))

    def curve(self, request: "CombineRequest", left: "Event") -> "Future[Curve]":
        """The curve of a mix; `left` is set when nobody waits for it any more. Raises as `extract` does."""
        base = self._checked(request)
        if request.base is None:
            return self.curves.submit(request, left, self.curves.here(self.front))
        return self.curves.submit(request.model_copy(update={"base": base.source}), left, partial(self.jobs.call, base.source))

    def _checked(self, request: "CombineRequest") -> KnownBase:
        if request.tuned is not None:
            raise NotSupported("tuned: two checkpoints are compared by the command line and the library; a server only takes mixes")
        check_mix_limits(request)
        base = self.base(request.base)
        try:
            self.front.check_mix(request)
        except LoraError as error:
            raise WrongRequest(error, request) from error
        return base

    def _shelve(self, path: Path) -> "Item | None":
        """A new file, as the library has it from now on."""
        self.rescan()
        return next((item for item in self.library.items if item.path.resolve() == path.resolve()), None)

    def save(self, image: "Image", text: str, prompt: str) -> str:
        """Write a picture into the output folder as the command line does; a note where that is impossible."""
        try:
            save_numbered(image, self.settings.output_folder, parse_lenient(prompt)[0].text, text)
        except LoraError as error:
            log.warning("not saved: %s", error)
            return "this picture could not be saved in the output folder; the server's log says why"
        return ""

    def stop(self) -> None:
        """The server is leaving: end what waits, let what runs finish soon, let listeners go."""
        self.curves.close()
        self.jobs.close()
        self.feed.tell(None)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(_service)]
