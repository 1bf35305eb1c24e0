"""What a base puts out with one network in place of several: the same words and the same noise through it, once for each."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from loraloom.engine.live import components
from loraloom.generate.draw import Shot, Style, draw, usual_side
from loraloom.generate.opened import Opened
from loraloom.generate.request import Drawing
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile, Mix, Stack
from loraloom.strength import Strength

if TYPE_CHECKING:
    from torch import Tensor

SHOT = Shot("a red apple on a white table", seed=0)
_SIDE = 256  # pixels at most: an error shows in a small picture as in a large one
_STEPS = 2  # of which the first is looked at: noise in the middle of its way, not at its end


def probed_live(opened: Opened, stack: Stack, made: LoraFile) -> Mapping[str, float]:
    """By component, ‖y' − y‖ / ‖y − base‖: y is its output with `stack`, y' with `made` at strength 1. Components that the stack leaves
    as they are, are left out. Raises as drawing does; the base stays untouched.
    """
    base, mix, file = (_outputs(opened, each) for each in ((), stack, [(made, Strength.of(1.0))]))
    changes = {name: float((output - base[name]).norm()) for name, output in mix.items()}
    return {name: float((file[name] - mix[name]).norm()) / change for name, change in changes.items() if change}


def small(opened: Opened) -> Style:
    """A picture that takes little and is drawn as others are."""
    usual = usual_side(opened.pipeline)
    side = None if usual is None or usual <= _SIDE else _SIDE
    return opened.style(Drawing(steps=_STEPS, width=side, height=side))


def _outputs(opened: Opened, stack: Stack) -> "Mapping[str, Tensor]":
    """The first output of each text encoder and of the denoiser, float32."""
    style = small(opened)
    with opened.engine.attached(Mix(tuple(stack)), steps=_STEPS), _heard(opened.pipeline) as found:
        list(draw(opened.pipeline, [SHOT], style))
    return found


@contextmanager
def _heard(pipeline: Any) -> "Iterator[dict[str, Tensor]]":
    """What the pipeline's components put out inside: of each the first tensor of its first call."""
    found: dict[str, Tensor] = {}

    def listening(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            found.setdefault(name, output[0].detach().to("cpu", torch.float32).clone())

        return hook

    with ExitStack() as over:
        for name, module in components(pipeline).items():
            over.callback(module.register_forward_hook(listening(name)).remove)
        yield found
