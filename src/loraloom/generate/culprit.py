"""Which network made numbers that are not finite, or the base itself: each looked at alone, on small pictures, when it has happened."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from loraloom.engine.live import components
from loraloom.errors import NotFinite
from loraloom.generate.draw import draw
from loraloom.generate.opened import Loader, Opened
from loraloom.generate.probe import SHOT, small
from loraloom.lazy import torch
from loraloom.lorafile import Mix


def blamed(error: NotFinite, opened: Opened, mix: Mix, loader: Loader | None) -> NotFinite:
    """The error with what did it."""
    return NotFinite(f"{error}. {_sentence(opened, mix, loader)}")


def _strongest(opened: Opened, mix: Mix, loader: Loader | None) -> str:
    """What the network of this mix does that changes the base's outputs most, as a clause."""
    base = _loudness(opened, Mix(), loader)
    found = {}
    for file, strength in (*mix.positive, *mix.negative):
        alone = _loudness(opened, Mix(((file, strength),)), loader)
        part, times = max(((name, alone[name] / (base.get(name) or 1.0)) for name in alone), key=lambda item: item[1])
        found[file.name] = times, part
    name, (times, part) = max(found.items(), key=lambda item: item[1][0])
    size = f"{times:.3g} times as large as the base's own" if math.isfinite(times) else "that are not finite"
    return f"{name} alone, at its strength here, makes the {part} put out numbers {size}"


def _sentence(opened: Opened, mix: Mix, loader: Loader | None) -> str:
    if not all(map(math.isfinite, _loudness(opened, Mix(), loader).values())):
        return "The base makes them without any network, too: load it in float32 or bfloat16, or with another VAE"
    if not mix.positive and not mix.negative:
        return "No network is attached: load the base in float32 or bfloat16, or with another VAE"
    return f"Of its networks, {_strongest(opened, mix, loader)}: lower its strength"


def _loudness(opened: Opened, mix: Mix, loader: Loader | None) -> Mapping[str, float]:
    """The largest number that each component puts out with the mix, the VAE's among them; infinite where one is not finite."""
    style = small(opened)
    attached = opened.runner(loader).attached(mix, steps=style.steps) if mix.positive else ExitStack()
    with attached, _heard(opened.pipeline) as found:
        try:
            list(draw(opened.pipeline, [SHOT], style))
        except NotFinite:
            found["vae"] = math.inf
    return found


@contextmanager
def _heard(pipeline: Any) -> "Iterator[dict[str, float]]":
    found: dict[str, float] = {}

    def listening(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            size = float(output[0].detach().abs().max())
            found[name] = max(found.get(name, 0.0), size if math.isfinite(size) else math.inf)

        return hook

    with ExitStack() as over, torch.no_grad():
        for name, module in components(pipeline).items():
            over.callback(module.register_forward_hook(listening(name)).remove)
        yield found
