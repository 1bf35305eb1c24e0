"""A base model that is open: its pipeline, its engine, and what it does where a request leaves something open."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from loraloom.basefile import BaseFile
from loraloom.bases import Base
from loraloom.engine import Engine, Fallback
from loraloom.engine.live import components, recognise
from loraloom.errors import NotSupported
from loraloom.generate.draw import Source, Style, own_sampler, usual_side
from loraloom.generate.pipeline import painter
from loraloom.generate.request import Drawing

# Steps and guidance by family; guidance None is the pipeline's own.
_DEFAULTS: Mapping[str, tuple[int, float | None]] = {"tiny": (20, 2.5), "nano": (4, 2.5), "sd1": (25, 7.5)}
_OTHER_DEFAULTS = (28, None)

Loader = Literal["auto", "native", "diffusers"]


def usual_steps(family: str) -> int:
    """How many steps a picture takes where nobody says how many."""
    return _DEFAULTS.get(family, _OTHER_DEFAULTS)[0]


@dataclass(frozen=True)
class BaseFacts:
    """What a base is, and what it does where a request says nothing. Nothing here holds its tensors."""

    family: str | None  # None: the native engine does not know it
    title: str | None
    steps: int
    guidance: float | None
    side: int | None  # pixels of width and height
    sampler: str


@dataclass(frozen=True)
class Opened:
    """`model` is the base's name as recipes say it: no folders of this computer."""

    pipeline: Any
    model: str
    loader: Loader = "auto"  # where a request leaves it open

    @cached_property
    def base(self) -> Base:
        """Raises NotSupported for a pipeline that the native engine does not know."""
        return recognise(self.pipeline)

    @cached_property
    def engine(self) -> Engine:
        """Raises NotSupported as `base` does, and for a pipeline that carries PEFT layers."""
        return Engine(self.pipeline, self.base)

    @property
    def file(self) -> BaseFile:
        """Its weights as they are while nothing is attached. Raises NotSupported as `base` does."""
        found = {name: part.state_dict() for name, part in components(self.pipeline).items()}
        return BaseFile(self.model, self.base, {f"{name}/{key}": tensor for name, held in found.items() for key, tensor in held.items()})

    @cached_property
    def known(self) -> bool:
        """Whether the native engine knows this pipeline."""
        try:
            return bool(self.base)
        except NotSupported:
            return False

    @property
    def facts(self) -> BaseFacts:
        base, style = self.base if self.known else None, self.style(Drawing())
        return BaseFacts(
            base.family if base else None,
            base.title if base else None,
            style.steps,
            style.guidance,
            usual_side(self.pipeline),
            own_sampler(self.pipeline),
        )

    def runner(self, loader: Loader | None) -> Engine | Fallback:
        """What runs LoRAs on this base; raises NotSupported as the two do."""
        wish = loader or self.loader
        if wish == "native" or (wish == "auto" and self.known):
            return self.engine
        why = "asked for" if wish == "diffusers" else f"this {type(self.pipeline).__name__} is not known to the native engine"
        return Fallback(self.pipeline, why)

    def beginning_with(self, source: Source | None) -> "Opened":
        """The same base where drawing begins with a picture, or with one and its mask. Raises NotSupported if it cannot."""
        if source is None:
            return self
        return self._masked if source.mask else self._painter

    @cached_property
    def _painter(self) -> "Opened":
        return Opened(painter(self.pipeline, masked=False), self.model, self.loader)

    @cached_property
    def _masked(self) -> "Opened":
        return Opened(painter(self.pipeline, masked=True), self.model, self.loader)

    def style(self, request: Drawing, source: Source | None = None) -> Style:
        """How this base draws the request."""
        steps, guidance = _DEFAULTS.get(self.base.family, _OTHER_DEFAULTS) if self.known else _OTHER_DEFAULTS
        chosen = guidance if request.guidance is None else request.guidance
        return Style(request.steps or steps, chosen, request.width, request.height, request.sampler, source)
