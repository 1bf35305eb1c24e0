"""Random cycles of attach, draw, swap and detach, with faults thrown anywhere: every bit of the base is what it was.

Sixty in `make test`, a thousand in `make test-long` (quality.md §3: nothing lost).
"""

import random

import pytest
import torch
from running import mix
from support import everything, fingerprint, hooks, network

from loraloom.bases import NANO, NANOXL
from loraloom.bases.nano.model import load
from loraloom.bases.nanoxl.model import load as load_xl
from loraloom.engine import Engine
from loraloom.engine.branch import Branches
from loraloom.engine.merge import Merged
from loraloom.engine.run import Run
from loraloom.errors import NotSupported

VALUES = ("0.7", "-0.4", "2", "te=0.3:unet=0.9", "in=0:mid=1:out=0.5", "unet=0~1", "unet=0.2@1,0.9@2", "te=0.1@1,0.6@2", "1:start=2", "0")
STEPS = 2
OUTCOMES = ("whole", "body", "attach", "denoiser")


def networks(base):
    return (
        network(base, everything, seed=1),
        network(base, seed=100, rank=2),
        network(base, everything, share=0.5, seed=200, rank=6),
        network(base, everything, seed=300, bias=True),
        network(base, everything, seed=400, tucker=True),
    )


def pipelines():
    """(pipeline, its networks) of both structures, and of one stored in half precision."""
    nano, half, wide = load(), load(), load_xl()
    half.to(torch.bfloat16)
    for pipeline in (nano, half, wide):
        pipeline.set_progress_bar_config(disable=True)
    return ((nano, networks(NANO)), (half, networks(NANO)), (wide, networks(NANOXL)))


@pytest.mark.parametrize("cycles", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_random_cycles_with_faults_leave_every_bit(cycles, monkeypatch):
    dice, happened = random.Random(cycles), dict.fromkeys((*OUTCOMES, "drawn"), 0)
    for pipeline, files in pipelines():
        engine = Engine(pipeline)
        _draw(pipeline, 1)  # transformers hooks an encoder at its first call, once and for all
        prints, count, own = fingerprint(pipeline), hooks(pipeline), set(vars(pipeline))
        for _ in range(-(-cycles // 3)):
            outcome = dice.choice(OUTCOMES)
            happened["drawn"] += _cycle(engine, files, outcome, dice, monkeypatch)
            happened[outcome] += 1
            assert fingerprint(pipeline) == prints
            assert hooks(pipeline) == count
            assert set(vars(pipeline)) == own
            assert not any(name.startswith("_loraloom") for part in (pipeline.unet, pipeline.text_encoder) for name in vars(part))
            assert not {"step", "set_timesteps"} & vars(pipeline.scheduler).keys()
    assert min(happened.values()) > cycles // 10


def _cycle(engine, files, outcome, dice, monkeypatch) -> bool:
    """One attach that ends as `outcome` says; whether a whole picture was drawn."""
    pictures = dice.choice((1, 1, 2))
    mixes = [_mix(files, dice) for _ in range(pictures)]
    drawn = False
    with monkeypatch.context() as patch:
        if outcome == "attach":
            left = [dice.randrange(1, 40)]
            for live, inner in ((Merged, "_change_weight"), (Merged, "_change_bias"), (Branches, "add"), (Run, "follow")):
                patch.setattr(live, inner, failing(getattr(live, inner), left, after=dice.random() < 0.5))
        if outcome == "denoiser":
            patch.setattr(
                engine.pipeline.unet, "forward", failing(engine.pipeline.unet.forward, [dice.randrange(1, STEPS + 1)], after=False)
            )
        try:
            with engine.attached(mixes if pictures > 1 else mixes[0], steps=STEPS, mode=dice.choice(("merge", "branch", "auto", "auto"))):
                if outcome == "body":
                    raise ZeroDivisionError
                if outcome in ("denoiser", "whole"):
                    _draw(engine.pipeline, pictures)
                    drawn = True
        except (ZeroDivisionError, NotSupported):  # moving strengths cannot be merged: refused before anything is changed
            pass
    return drawn


def _mix(files, dice):
    stack = [(dice.choice(files), dice.choice(VALUES)) for _ in range(dice.randrange(1, 4))]
    return mix(*stack, negative=[(dice.choice(files), "0.5")] if dice.random() < 0.25 else ())


def _draw(pipeline, pictures):
    pipeline(["a cat"] * pictures, num_inference_steps=STEPS, guidance_scale=2.5, output_type="latent")


def failing(method, left: list[int], *, after: bool):
    """`method`, which fails at the n-th call: before it does anything, or when all is done."""

    def call(*arguments, **options):
        left[0] -= 1
        if left[0] == 0 and not after:
            raise ZeroDivisionError
        result = method(*arguments, **options)
        if left[0] == 0:
            raise ZeroDivisionError
        return result

    return call
