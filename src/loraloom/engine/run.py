"""One attach while it runs: before every call of the denoiser and the text encoders, the right strengths for its rows and step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loraloom.engine.live import before_calls
from loraloom.engine.mixture import Mixture, Slots
from loraloom.engine.rows import picture, rows
from loraloom.engine.steps import Steps
from loraloom.engine.strengths import Strengths
from loraloom.engine.text import Text
from loraloom.lazy import torch
from loraloom.strength import is_text_encoder
from loraloom.undo import Undo

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Run:
    def __init__(self, pipeline: Any, mixture: Mixture, slots: Slots, strengths: Mapping[str, Strengths], steps: int) -> None:
        self._pipeline, self._mixture, self._slots, self._strengths = pipeline, mixture, slots, strengths
        self._steps = Steps(pipeline, steps)
        self._values: dict[tuple[int, int], Tensor] = {}
        self._now: tuple[int, int] | None = None
        self._varies = slots.vary(range(len(slots)))
        self._text = Text(pipeline, mixture, slots, self._go_to)
        self._go_to(1, max(1, steps))

    def step(self, n: int) -> None:
        self._steps.set(n)
        self._go_to(*self._steps.now())

    def follow(self, parts: "Mapping[str, Module]", undo: Undo) -> None:
        """Strengths follow rows and steps from now on. Where nothing moves, nothing is hooked."""
        self._text.attach(undo)
        undo.before(self._steps.restore)
        self._steps.watch()
        for name, part in parts.items():
            if is_text_encoder(name):
                if not self._mixture.one and name in self._strengths:
                    before_calls(part, self._before_encoder(name), undo)
            elif self._varies or not self._mixture.one:
                before_calls(part, self._before_denoiser(name), undo)

    def _go_to(self, step: int, steps: int) -> None:
        """One write for each component; the numbers of a step are worked out once."""
        if self._now == (step, steps) or not len(self._slots):
            return
        if (step, steps) not in self._values:
            self._values[step, steps] = torch.tensor(self._slots.at(step, steps), dtype=torch.float32, device="cpu")
        for strengths in self._strengths.values():
            strengths.write(self._values[step, steps])
        self._now = (step, steps)

    def _before_encoder(self, name: str) -> Any:
        def hook(_: "Module", arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            ids = arguments[0] if arguments else options["input_ids"]
            self._strengths[name].select(self._text.columns(name, len(ids)))

        return hook

    def _before_denoiser(self, name: str) -> Any:
        def hook(_: "Module", arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            step, steps = self._steps.now()
            self._go_to(step, steps)
            sample: Tensor = arguments[0] if arguments else options["sample" if "sample" in options else "hidden_states"]
            if not self._mixture.one or self._text.varies:
                found = rows(self._pipeline, len(sample))
                count = 1 + max(row.place for row in found)
                mine = [self._mixture.column(picture(row.place, count, self._mixture.pictures), row.half) for row in found]
                if name in self._strengths:
                    self._strengths[name].select(mine)
                if self._text.varies:
                    options = self._text.replaced(step, steps, found, options)
            return arguments, options

        return hook
