"""One drawing job: what was asked for, its pictures, and a look at the one that is being drawn."""

import io
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from loraloom.errors import Interrupted
from loraloom.generate.request import ImageRequest
from loraloom.generate.save import png_bytes
from loraloom.web.task import Task, text_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

    from loraloom.generate.draw import Progress
    from loraloom.generate.infotext import Recipe
    from loraloom.generate.jobs import Picture
    from loraloom.session import Session

_LOOK_SECONDS = 0.5  # between two previews: each decodes a picture
_LOOKED_SECONDS = 5.0  # after the last look nobody is thought to look any more


@dataclass(frozen=True)
class Drawn:
    """A finished picture as its PNG, which carries its recipe."""

    id: str
    png: bytes
    width: int
    height: int
    seed: int
    recipe: "Recipe"
    notes: tuple[str, ...]


class Finish(Protocol):
    """Makes what is kept of what was drawn."""

    @property
    def nbytes(self) -> int:
        """Of what it holds for that."""

    def finish(self, drawn: "Image") -> "Image": ...


@dataclass(frozen=True)
class Part:
    """Some pictures of a job, drawn in one go."""

    request: ImageRequest
    finish: Finish | None = None


@dataclass(frozen=True)
class Asked:
    """What makes a job: the request as it is shown, and its parts as a session takes them."""

    request: ImageRequest
    base: str  # as a session takes it
    parts: Sequence[Part]  # they share the request's texts and what finishes them
    save: bool = True  # in the output folder too

    @property
    def nbytes(self) -> int:
        finishing = {id(part.finish): part.finish.nbytes for part in self.parts if part.finish}
        return sum(map(text_bytes, self.request.model_dump(mode="json").values())) + sum(finishing.values())

    def over(self) -> "Asked":
        """What is shown of it when the job is over: without pictures, and without what would draw it again."""
        return Asked(self.request.model_copy(update={"image": None, "mask": None}), self.base, (), self.save)


Save = Callable[["Image", str, str], str]  # a picture, its text and its title; returns a note if it could not


class DrawTask(Task):
    """`skip` leaves out the part that is being drawn, `interrupt` the rest; finished pictures stay."""

    def __init__(self, asked: Asked, told: Callable[[str], None], open_base: "Callable[[Session, str], object]", save: Save) -> None:
        """`open_base` is called with the base before the first part."""
        super().__init__(asked.base, told)
        self.asked = asked
        self.part = 0  # that is being drawn, from 0
        self.part_step = self.part_steps = 0  # of its; `step` and `steps` are of all parts
        self.pictures: list[Drawn] = []
        self.report = ""
        self.skipped = threading.Event()
        self.preview: Image | None = None
        self._open_base, self._save = open_base, save
        self._looked = self._previewed = -math.inf

    @property
    def nbytes(self) -> int:
        drawn = sum(len(picture.png) + sum(map(text_bytes, (str(picture.recipe), *picture.notes))) for picture in self.pictures)
        return super().nbytes + self.asked.nbytes + drawn + text_bytes(self.report)

    def let_go(self) -> None:
        super().let_go()
        self.preview = None
        self.asked = self.asked.over()

    def run(self, session: "Session") -> None:
        """Draw all parts."""
        self._open_base(session, self.base)
        for number, part in enumerate(self.asked.parts):
            self.part = number
            self.skipped.clear()

            def keep(_: int, picture: "Picture", part: Part = part) -> None:
                self._keep(picture, part)

            try:
                self._stop_if_asked()
                session.generate(part.request, self._advance, keep)
            except Interrupted:
                if self.interrupted.is_set():
                    raise

    def look(self) -> "Image | None":
        """The picture as it was a moment ago; looking makes the worker decode the next ones."""
        self._looked = time.monotonic()
        return self.preview

    def _stop_if_asked(self) -> None:
        super()._stop_if_asked()
        if self.skipped.is_set():
            raise Interrupted("skipped")

    def _advance(self, progress: "Progress") -> None:
        """After each step: count it, decode a preview if somebody looks, stop if that was asked for."""
        self._stop_if_asked()
        self.part_step, self.part_steps = progress.step, progress.steps
        self.steps = progress.steps * len(self.asked.parts)
        self.step = progress.steps * self.part + progress.step
        self._pace(progress.rate)
        now = time.monotonic()
        if progress.look and now - self._looked < _LOOKED_SECONDS and now - self._previewed >= _LOOK_SECONDS:
            self.preview, self._previewed = progress.look(), now
        self._told(self.id)

    def _keep(self, picture: "Picture", part: Part) -> None:
        image = part.finish.finish(picture.image) if part.finish else picture.image
        text = str(picture.recipe)
        problem = self._save(image, text, part.request.prompt) if self.asked.save else ""
        self.notes = tuple(dict.fromkeys((*self.notes, *picture.notes, *([problem] if problem else ()))))
        self.report = str(picture.report) if picture.report else ""
        drawn = Drawn(secrets.token_hex(8), png_bytes(image, text), image.width, image.height, picture.seed, picture.recipe, picture.notes)
        self.pictures.append(drawn)
        self._told(self.id)


def encoded(image: "Image", kind: str = "PNG") -> bytes:
    """A picture's bytes, without a recipe."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, kind)
    return buffer.getvalue()
