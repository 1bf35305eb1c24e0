"""A base model that is open: its pipeline, its engine, and what it does where a request leaves something open."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from loraloom.bases import Base
from loraloom.engine import Engine
from loraloom.engine.live import recognise
from loraloom.errors import NotSupported
from loraloom.generate.draw import Style
from loraloom.generate.request import Drawing

# Steps and guidance by family; guidance None is the pipeline's own.
_DEFAULTS: Mapping[str, tuple[int, float | None]] = {"tiny": (20, 2.5), "nano": (4, 2.5), "sd1": (25, 7.5)}
_OTHER_DEFAULTS = (28, None)


@dataclass(frozen=True)
class Opened:
    """`model` is the base's name as recipes say it: no folders of this computer."""

    pipeline: Any
    model: str

    @cached_property
    def base(self) -> Base:
        """Raises NotSupported for a pipeline that the native engine does not know; such a one still draws without LoRAs."""
        return recognise(self.pipeline)

    @cached_property
    def engine(self) -> Engine:
        """Raises NotSupported as `base` does, and for a pipeline that carries PEFT layers."""
        return Engine(self.pipeline, self.base)

    def style(self, request: Drawing) -> Style:
        """How this base draws the request."""
        try:
            steps, guidance = _DEFAULTS.get(self.base.family, _OTHER_DEFAULTS)
        except NotSupported:
            steps, guidance = _OTHER_DEFAULTS
        chosen = guidance if request.guidance is None else request.guidance
        return Style(request.steps or steps, chosen, request.width, request.height, request.sampler)
