"""What is switched on around an attach does not change what it does: inference mode, autocast, default dtypes and devices, gradients."""

import copy
from contextlib import contextmanager

import accelerate
import pytest
import torch
from diffusers.models.modeling_utils import no_init_weights
from running import mix
from support import everything, fingerprint, hooks, network

from loraloom.bases import NANO
from loraloom.engine import Engine
from loraloom.engine.surroundings import making

FILE = network(NANO, everything, bias=True)
WIDE = network(NANO, everything, rank=40)  # runs as one dense delta beside the layer


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AROUND = {
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "gradients": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "a default device": lambda: torch.device("meta"),
    "float16 by default": lambda: default_dtype(torch.float16),
    "float64 by default": lambda: default_dtype(torch.float64),
}


@pytest.fixture(scope="module")
def inferred(pipeline):
    """A pipeline that was loaded in inference mode: its parameters can be written to there only."""
    with torch.inference_mode():
        made = copy.deepcopy(pipeline)
    assert made.unet.conv_in.weight.is_inference()
    return made


def outputs(pipeline):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        text = pipeline.text_encoder(torch.arange(32)[None]).last_hidden_state
        return pipeline.unet(torch.randn(1, 4, 8, 8, generator=generator), 500, text).sample.clone()


@pytest.mark.parametrize("mode", ["merge", "branch"])
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("loaded", ["pipeline", "inferred"])
def test_an_attach_inside_is_the_attach_outside(request, loaded, around, mode):
    used = request.getfixturevalue(loaded)
    before, stack = fingerprint(used), mix((FILE, 0.5), (WIDE, 0.1))
    with Engine(used).attached(stack, mode=mode):
        expected = outputs(used)
    with AROUND[around]():
        context = Engine(used).attached(stack, mode=mode)
        context.__enter__()
    assert torch.equal(outputs(used), expected)
    with AROUND[around]():
        context.__exit__(None, None, None)
    assert fingerprint(used) == before
    assert hooks(used) == 0


@pytest.mark.parametrize("mixes", ["moving", "prepared", "two pictures"])
def test_strengths_move_in_and_out_of_inference_mode(pipeline, mixes):
    changed = copy.deepcopy(pipeline)
    attention = network(NANO)
    stack = {
        "moving": mix((FILE, "te=0.2:unet=0~1")),
        "prepared": mix((attention, "te=0.2:unet=0~1")),
        "two pictures": [mix((FILE, "unet=0~1")), mix((FILE, 0.2))],
    }[mixes]
    engine = Engine(changed)
    with torch.inference_mode():
        if mixes == "prepared":
            engine.prepare(rank=4)
        context = engine.attached(stack, steps=2)
        context.__enter__()
    with torch.no_grad():
        for step in (1, 2):
            engine.step(step)
    with torch.inference_mode():
        engine.step(1)
        context.__exit__(None, None, None)
    with engine.attached(stack, steps=2):
        engine.step(2)


def test_torch_makes_modules_as_before_whatever_a_loader_left_behind():
    """What a loader exchanges in the whole process stays exchanged where an interrupt comes before the first line of its exit."""
    left = [accelerate.init_empty_weights(), no_init_weights()]
    with making():
        for context in left:
            context.__enter__()
        torch.set_default_dtype(torch.float16)
    layer = torch.nn.BatchNorm1d(4)
    assert not any(tensor.is_meta for tensor in layer.state_dict().values())
    assert layer.weight.dtype == torch.float32
    assert torch.equal(torch.nn.init.zeros_(torch.full((2,), 3.0)), torch.zeros(2))
    assert torch.empty(1).device.type == "cpu"
