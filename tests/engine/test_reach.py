"""Laws of keys that reach nothing: each is told with the reason, and a key that does something is not."""

import pytest
from running import mix
from support import everything, network, random_ia3

from loraloom.bases import NANO, NANOXL
from loraloom.bases.nanoxl.model import load as load_nanoxl
from loraloom.engine import Engine
from loraloom.lorafile import LoraFile
from loraloom.strength import is_text_encoder

WHOLE = network(NANO, everything, seed=1)
NO_TEXT = network(NANO, lambda layer: layer.third is not None, seed=1)
TEXT = network(NANO, lambda layer: layer.third is None, seed=1)
INNER = network(NANO, lambda layer: layer.third == "in", seed=1)


def told(pipeline, file, text, negative=()):
    with Engine(pipeline).attached(mix((file, text), negative=negative), steps=4) as report:
        return report.networks[0].warnings


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (NO_TEXT, "te=0.1@1,0.6@6", "te= acts on nothing: the file has no modules in a text encoder"),
        (NO_TEXT, "1:te1=0.5", "te1= acts on nothing: the file has no modules in the first text encoder"),
        (WHOLE, "1:te2=0.5", "te2= acts on nothing: this base has no text_encoder_2"),
        (WHOLE, "1:te3=0.5", "te3= acts on nothing: this base has no text_encoder_3"),
        (TEXT, "1:0.5", "unet= acts on nothing: the file has no modules in the denoiser"),
        (TEXT, "unet=0~1", "unet= acts on nothing: the file has no modules in the denoiser"),
        (INNER, "mid=0.5", "mid= acts on nothing: the file has no modules in the middle of the denoiser"),
        (INNER, "1:out=0.5", "out= acts on nothing: the file has no modules in the last part of the denoiser"),
        (WHOLE, "module=low", "module=low leaves nothing on: this base has no transformer_2"),
        (WHOLE, "module=te2", "module=te2 leaves nothing on: this base has no text_encoder_2"),
        (NO_TEXT, "module=te", "module=te leaves nothing on: the file has no modules in text_encoder or"),
        (WHOLE, "module=te:unet=0.5", "unet= acts on nothing: module=te leaves the denoiser out"),
        (WHOLE, "te=0.5:te1=0.2", "te= acts on nothing: te1= stands for it"),
        (WHOLE, "unet=0.5:in=1:mid=1:out=1", "unet= acts on nothing: in=, mid=, out= stand for it"),
        (NO_TEXT, "in=0:mid=0:out=0", "its strengths leave every module of the file at 0"),
        (WHOLE, "dyn=64", "dyn=64 cuts nothing: no module has more than 4 ranks"),
    ],
)
def test_a_key_that_reaches_nothing_is_told(pipeline, file, text, expected):
    warnings = told(pipeline, file, text)
    assert len(warnings) == 1
    assert warnings[0].startswith(expected)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (WHOLE, "te=0.1@1,0.6@3:unet=0~1"),
        (WHOLE, "1:in=0:mid=1:out=0"),
        (WHOLE, "te1=0.5:dyn=2"),
        (WHOLE, "module=te:te=0.5"),
        (WHOLE, "module=unet"),
        (NO_TEXT, "1"),
        (NO_TEXT, "0.5:1"),  # the first number is for whatever has no number of its own
        (NO_TEXT, "in=0.5"),
        (INNER, "unet=0.5"),
        (TEXT, "te=0.5"),
        (WHOLE, "0"),
        (TEXT, "0:unet=0"),  # off, as it was asked for
    ],
)
def test_a_key_that_does_something_is_not(pipeline, file, text):
    assert told(pipeline, file, text) == ()


def test_dyn_says_where_there_are_no_ranks_to_cut(pipeline):
    adapters = {target: random_ia3(*NANO.by_target[target].shape) for target in NO_TEXT.adapters}
    file = LoraFile(adapters, {"ss_output_name": "ia3"}, "nano")
    assert told(pipeline, file, "dyn=2") == ("dyn=2 is ignored by ia3, which have no ranks to cut",)


def test_a_tag_in_the_negative_prompt_is_looked_at_too(pipeline):
    assert told(pipeline, NO_TEXT, "1", negative=((NO_TEXT, "te=0.5:unet=0.1"),)) == (
        "te= acts on nothing: the file has no modules in a text encoder",
    )


def test_each_text_encoder_counts_on_its_own():
    file = network(NANOXL, lambda layer: layer.target.component != "text_encoder_2", seed=1)
    assert any(is_text_encoder(target.component) for target in file.adapters)
    assert told(load_nanoxl(), file, "te=0.5") == ()
    assert told(load_nanoxl(), file, "te2=0.5") == ("te2= acts on nothing: the file has no modules in the second text encoder",)
