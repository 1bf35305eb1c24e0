"""On the embedded base, with its own LoRAs: a mix, the file made of it, and that file in plain diffusers draw the same picture.

Every pair at five pairs of strengths, alone and with a random network of the text encoder, which only `bobbin` of the LoRAs of the
package changes. `make test` draws two of them, of four steps.
"""

from itertools import combinations

import diffusers
import numpy as np
import pytest
import torch

from loraloom import ImageRequest, Session
from loraloom.bases import TINY
from loraloom.bases.tiny.model import folder
from loraloom.combine import CombineRequest

NAMES = ("bobbin", "delft", "mulberry")
STRENGTHS = ((1, 1), (0.8, 0.5), (0.3, 1.2), (-0.4, 0.9), (0.6, -0.7))
PROMPT, SEED, GUIDANCE = "octopus", 5, 2.5
EVERY = [(pair, strengths, text) for pair in combinations(NAMES, 2) for strengths in STRENGTHS for text in (True, False)]
FEW = [(("bobbin", "delft"), (0.8, 0.5), True), (("delft", "mulberry"), (-0.4, 0.9), False)]
CASES = [case if case in FEW else pytest.param(*case, marks=pytest.mark.long) for case in EVERY]


@pytest.fixture(scope="module")
def library(tmp_path_factory, make_lora):
    found = tmp_path_factory.mktemp("library")
    make_lora(found / "words.safetensors", TINY, size=0.1)
    return found


@pytest.fixture(scope="module")
def session(library):
    return Session(lora_folders=[library])


@pytest.fixture(scope="module")
def plain():
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder(), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def mixed(pair, strengths, *, text):
    tags = [f"<lora:{name}:{value}>" for name, value in zip(pair, strengths, strict=True)]
    return "".join([*tags, "<lora:words:te=0.7:unet=0>"] if text else tags)


def drawn(session, tags, steps):
    request = ImageRequest(prompt=f"{PROMPT} {tags}", seed=SEED, base="tiny", steps=steps, guidance=GUIDANCE)
    return pixels(session.generate(request)[0].image)


def drawn_by_diffusers(pipeline, path, steps):
    pipeline.load_lora_weights(str(path))
    try:
        generator = torch.Generator("cpu").manual_seed(SEED)
        return pixels(pipeline(PROMPT, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=generator).images[0])
    finally:
        pipeline.unload_lora_weights()


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def apart(one, other):
    return int(np.abs(one - other).max())


@pytest.mark.parametrize(("pair", "strengths", "text"), CASES, ids=str)
def test_a_mix_its_file_and_the_file_in_diffusers_draw_the_same(session, library, plain, request, pair, strengths, text):
    """At most 1/255 in every pixel."""
    steps = 20 if request.node.get_closest_marker("long") else 4
    mix, name = mixed(pair, strengths, text=text), f"mixed-{len(list(library.iterdir()))}"
    found = session.extract(CombineRequest(mix=mix), library / f"{name}.safetensors")
    assert found.components.keys() == ({"unet", "text_encoder"} if text or "bobbin" in pair else {"unet"})
    of_mix = drawn(session, mix, steps)
    assert apart(of_mix, drawn(session, f"<lora:{name}:1>", steps)) <= 1
    assert apart(of_mix, drawn_by_diffusers(plain, found.path, steps)) <= 1
    assert apart(of_mix, drawn(session, "", steps)) > 20
