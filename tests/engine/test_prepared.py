"""Prepared room: a compiled model takes networks, swaps them and changes strengths without being compiled anew."""

import pytest
import torch
from running import generators, mix
from support import close, everything, fingerprint, network
from torch._dynamo.testing import CompileCounter

from loraloom.bases import NANO
from loraloom.bases.nano.model import load
from loraloom.engine import Engine
from loraloom.errors import EngineError, NotSupported

INK, NEON = network(NANO, everything, seed=1), network(NANO, seed=100, rank=2)
MIXES = [
    mix((INK, "0.7")),
    mix((NEON, "-0.5")),
    mix((INK, "te=0.3:unet=0.9"), (NEON, "1")),
    mix((INK, "unet=0~1"), (NEON, "te=0.1@1,0.6@2")),
]
ONE, FOUR = [[one] for one in MIXES], [MIXES, MIXES[::-1]]
STEPS = 3


@pytest.fixture
def pipeline():
    found = load()
    found.set_progress_bar_config(disable=True)
    torch._dynamo.reset()
    return found


@pytest.fixture(scope="module")
def expected():
    """The pictures of mixes without compiling and without room."""
    plain = load()
    plain.set_progress_bar_config(disable=True)
    return lambda mixes: drawn(plain, Engine(plain), mixes)


def drawn(pipeline, engine, mixes):
    with engine.attached(mixes if len(mixes) > 1 else mixes[0], steps=STEPS):
        return base(pipeline, len(mixes))


def base(pipeline, pictures=1):
    options = {"num_inference_steps": STEPS, "guidance_scale": 2.5, "output_type": "latent"}
    return pipeline(["a cat"] * pictures, generator=generators(*range(3, 3 + pictures)), **options).images


def in_place(pipeline, backend):
    pipeline.unet.compile(backend=backend)
    pipeline.text_encoder.compile(backend=backend)


def wrapped(pipeline, backend):
    pipeline.unet = torch.compile(pipeline.unet, backend=backend)


def swapped(pipeline, expected, engine, counter, first, *others):
    """All of these, one after another, compiled at the first at most."""
    assert close(drawn(pipeline, engine, first), expected(first), 2e-5)
    seen = counter.frame_count
    for mixes in others:
        assert close(drawn(pipeline, engine, mixes), expected(mixes), 2e-5)
    assert counter.frame_count == seen > 0


# A trace of the UNet takes seconds: one test compiles in place and runs a mix at a time, the other compiles a copy and gives each
# picture its own, which is another shape; the long one has both on one model.
def test_networks_are_swapped_on_a_compiled_model_without_compiling_anew(pipeline, expected):
    prints, before = fingerprint(pipeline), base(pipeline)
    engine, counter = Engine(pipeline), CompileCounter()
    engine.prepare(rank=8)
    in_place(pipeline, counter)
    assert close(base(pipeline), before)
    assert counter.frame_count > 0
    seen = counter.frame_count
    for mixes in ONE:
        assert close(drawn(pipeline, engine, mixes), expected(mixes))
        assert close(base(pipeline), before)
    assert counter.frame_count == seen
    assert fingerprint(pipeline) == prints


def test_pictures_change_places_on_a_compiled_model_without_compiling_anew(pipeline, expected):
    prints = fingerprint(pipeline)
    engine, counter = Engine(pipeline), CompileCounter()
    engine.prepare(rank=8)
    wrapped(pipeline, counter)
    swapped(pipeline, expected, engine, counter, *FOUR)
    assert list(fingerprint(pipeline).values()) == list(prints.values())  # names have another prefix where it was wrapped


@pytest.mark.long
@pytest.mark.parametrize("compiled", [in_place, wrapped])
def test_one_mix_and_rows_of_their_own_are_compiled_once_each(pipeline, expected, compiled):
    before = base(pipeline)
    engine, counter = Engine(pipeline), CompileCounter()
    engine.prepare(rank=8)
    compiled(pipeline, counter)
    for each in (ONE, FOUR):
        swapped(pipeline, expected, engine, counter, *each)
    seen = counter.frame_count
    assert close(base(pipeline), before)
    assert close(drawn(pipeline, engine, ONE[0]), expected(ONE[0]))
    assert counter.frame_count == seen


def test_room_without_compiling_gives_the_same_and_release_takes_it_away(pipeline, expected):
    prints, before = fingerprint(pipeline), base(pipeline)
    engine = Engine(pipeline)
    engine.prepare(rank=8)
    for mixes in ONE:
        assert close(drawn(pipeline, engine, mixes), expected(mixes))
    with engine.attached(MIXES[0]), pytest.raises(EngineError, match="leave that `attached` first"):
        engine.release()
    engine.release()
    assert torch.equal(base(pipeline), before)
    assert fingerprint(pipeline) == prints
    assert close(drawn(pipeline, engine, ONE[0]), expected(ONE[0]))


def test_what_there_is_no_room_for_is_refused_before_anything_is_written(pipeline):
    engine = Engine(pipeline)
    engine.prepare(rank=5)
    before = base(pipeline)
    with pytest.raises(NotSupported, match=r"6 ranks together, there is room for 5; call prepare\(rank=6\)"), engine.attached(MIXES[2]):
        pass
    with (
        pytest.raises(NotSupported, match="this lora is more; use mode"),
        engine.attached(mix((network(NANO, everything, bias=True), "1"))),
    ):
        pass
    assert torch.equal(base(pipeline), before)


def test_a_compiled_model_without_room_names_prepare(pipeline):
    pipeline.unet.compile(backend="eager")
    with (
        pytest.raises(NotSupported, match=r"engine.prepare\(rank=...\) before compiling"),
        Engine(pipeline).attached(MIXES[3], steps=STEPS),
    ):
        pass
