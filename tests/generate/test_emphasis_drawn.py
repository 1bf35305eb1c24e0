"""Laws of drawing with emphasis and long prompts: with networks, in batches, from pictures, and where a base cannot weigh words."""

import base64
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loraloom import ImageRequest, Session
from loraloom.bases import NANO, NANOXL
from loraloom.bases.nanoxl.model import load as load_nanoxl
from loraloom.engine import Engine
from loraloom.generate.draw import Shot, Style, draw
from loraloom.generate.emphasis import count_chunks, emphasised
from loraloom.generate.jobs import Job, notes
from loraloom.generate.opened import Opened
from loraloom.lorafile import LoraFile, Mix

sys.path += [str(Path(__file__).parent.parent / folder) for folder in ("contract", "engine")]  # support.py, sd3.py, running.py

from running import Calls, mix
from sd3 import load_sd3
from support import close, everything, network

INK = network(NANO, everything, seed=1)
LONG = "a (red:1.4) cat, " * 5


@pytest.fixture(scope="module")
def session(tmp_path_factory, make_lora):
    folder = tmp_path_factory.mktemp("loras")
    make_lora(folder / "ink.safetensors", seed=1)
    return Session(lora_folders=[folder])


@pytest.fixture(scope="module")
def drawn(session):
    def drawn(prompt, **values):
        return session.generate(ImageRequest(**{"prompt": prompt, "base": "nano", "seed": 5, **values}))

    return drawn


def pixels(picture):
    return np.asarray(getattr(picture, "image", picture), dtype=int)


def seen(pipeline, mixes, prompts, negatives, steps=3):
    """What the denoiser was given: embeddings at each step."""
    with emphasised(pipeline), Engine(pipeline).attached(mixes, steps=steps):
        calls = Calls(pipeline)
        try:
            seeds = [torch.Generator().manual_seed(3) for _ in prompts]
            options = {"guidance_scale": 2.5, "output_type": "latent", "generator": seeds, "num_inference_steps": steps}
            pipeline(prompts, negative_prompt=negatives, **options)
        finally:
            calls.stop()
    return [options["encoder_hidden_states"] for _, options in calls.inputs]


def test_weights_and_length_change_the_picture_and_nothing_after_it(drawn):
    [plain], [weighed], [long], [after] = (
        drawn(text) for text in ("a red cat", "a (red:1.8) cat", "a red cat" + ", blue" * 9, "a red cat")
    )
    assert abs(pixels(plain) - pixels(weighed)).max() > 3
    assert abs(pixels(plain) - pixels(long)).max() > 3
    assert (pixels(plain) == pixels(after)).all()
    assert not weighed.notes
    assert not long.notes


def test_brackets_that_weigh_nothing_are_no_words(drawn):
    pictures = [drawn(text)[0] for text in ("a (red:1.0) cat", "a red cat", "a ([red]) cat")]
    assert (pixels(pictures[0]) == pixels(pictures[1])).all()
    assert abs(pixels(pictures[1]) - pixels(pictures[2])).max() <= 1  # 1.1 / 1.1


def test_the_negative_prompt_weighs_words_too(drawn):
    pictures = [drawn("a cat", negative_prompt=text)[0] for text in ("dogs", "(dogs:3)", "dogs, " * 9)]
    assert all((pixels(pictures[0]) != pixels(other)).any() for other in pictures[1:])
    assert pictures[1].recipe.negative_prompt == "(dogs:3)"


def test_the_recipe_has_the_prompt_as_it_was_written(drawn):
    [picture] = drawn(f"{LONG} <lora:ink:0.5>")
    assert picture.recipe.prompt == f"{LONG} <lora:ink:0.5>"


def test_a_tag_inside_brackets_is_not_scaled(drawn):
    inside, beside = (drawn(text)[0] for text in ("a (red <lora:ink:0.5>:1.4) cat", "a (red:1.4) cat <lora:ink:0.5>"))
    assert abs(pixels(inside) - pixels(beside)).max() <= 1


def test_a_batch_equals_its_pictures_alone(nano):
    """A picture is drawn with those of as many chunks: an empty chunk would be looked at, too."""
    shots = [Shot("a cat", 1), Shot("a (cat:1.3)", 1), Shot(LONG, 2), Shot("dark", 3, LONG), Shot("a cat", 4, "(dark)"), Shot("", 5)]
    with emphasised(nano):
        together = list(draw(nano, shots, Style(3, 2.5)))
        alone = [next(draw(nano, [shot], Style(3, 2.5))) for shot in shots]
    assert [count_chunks(nano, shot.text, shot.negative) for shot in shots] == [1, 1, 2, 2, 1, 1]
    for left, right in zip(together, alone, strict=True):
        assert abs(pixels(left) - pixels(right)).max() <= 1  # of 255: matrix products of another height round differently


def test_text_encoder_strengths_that_change_by_step_weigh_the_same_words(nano):
    found = seen(nano, mix((INK, "te=0.1@1,0.8@3")), [LONG], ["(dark)"])
    for step, strength in enumerate((0.1, 0.1, 0.8)):
        [expected] = seen(nano, mix((INK, f"te={strength}")), [LONG], ["(dark)"], steps=1)
        assert close(found[step], expected)
    assert not close(found[0], found[2], 1e-2)


def test_pictures_with_a_mix_of_their_own_have_their_own_words(nano):
    texts, dark = [LONG, "a (cat:1.3)"], ["(dark)", LONG]
    mixes = [mix((INK, "te=0.5")), mix((INK, "te=-0.5"), negative=((INK, "te=0.2"),))]
    [found] = seen(nano, mixes, texts, dark, steps=1)
    for place in range(2):
        [alone] = seen(nano, [mixes[place]], texts[place : place + 1], dark[place : place + 1], steps=1)
        assert close(found[place::2], alone)


def test_sdxl_follows_schedules_with_long_prompts():
    pipeline = load_nanoxl()
    pipeline.set_progress_bar_config(disable=True)
    found = seen(pipeline, mix((network(NANOXL, everything, seed=1), "te=0~1")), [LONG], ["dark"])
    assert [tensor.shape for tensor in found] == [(2, 2 * 32, pipeline.unet.config.cross_attention_dim)] * 3
    assert not close(found[0], found[2], 1e-2)


@pytest.mark.parametrize("places", [1, 26, 28])
def test_a_word_of_several_vectors_stays_in_one_chunk(nano, places):
    vectors = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    bringer = LoraFile({}, {"ss_output_name": "bringer"}, "nano", embeddings={"zyx": {"text_encoder": vectors}})
    words = "a " * places
    with emphasised(nano), Engine(nano).attached(mix((bringer, 1))), torch.no_grad():
        split = places + 3 > 30
        found = nano.encode_prompt([f"{words}zyx (b:1.0)"], "cpu", 1, False)[0]
        parts = [words, "zyx b"] if split else [f"{words}zyx b"]
        expected = torch.cat([nano.encode_prompt([part], "cpu", 1, False)[0] for part in parts], dim=1)
    assert close(found, expected)


def _encoded(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("mask", [None, _encoded(Image.new("L", (16, 16), "white"))])
def test_drawing_that_begins_with_a_picture_weighs_words(drawn, mask):
    begin = {"image": _encoded(Image.new("RGB", (16, 16), "gray")), "mask": mask}
    [plain], [weighed] = (drawn(f"{text} <lora:ink:te=0~1>", **begin) for text in ("a cat", f"(a cat:1.8), {LONG}"))
    assert abs(pixels(plain) - pixels(weighed)).max() > 3


def test_a_base_that_weighs_no_words_says_so_and_draws_them_with_weight_1():
    opened = Opened(load_sd3(), "sd3")
    opened.pipeline.set_progress_bar_config(disable=True)
    texts = [r"a (red:1.4) \(cat\)", r"a red \(cat\)", "x " * 50]
    heard = []
    for text in texts:
        job = Job(Shot(text, 1), Mix(), text)
        heard.append(" ".join(notes(opened, job, None, Style(2))))
    assert "this StableDiffusion3Pipeline has CLIPText" in heard[0]
    assert "weight 1" in heard[0]
    assert heard[1] == ""
    assert "reads 32 tokens, the prompt has 52: its end is not used" in heard[2]
    with emphasised(opened.pipeline):
        left, right = (next(draw(opened.pipeline, [Shot(text, 1)], Style(2, 2.5))) for text in texts[:2])
    assert (pixels(left) == pixels(right)).all()
