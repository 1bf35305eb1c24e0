"""A picture of numbers that are not finite is never kept, and what made them is named: one of the networks, or the base itself."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraloom import dialects
from loraloom.bases import NANO
from loraloom.errors import NotFinite
from loraloom.generate.draw import Shot
from loraloom.generate.jobs import Job, draw_jobs
from loraloom.generate.opened import Opened
from loraloom.generate.request import Drawing
from loraloom.lorafile import Mix
from loraloom.prompts import parse
from loraloom.tensorfile import Header


@pytest.fixture
def files(make_lora, tmp_path):
    """A mix of `ink`, as others are, and `neon`, whose numbers a prompt can make too large for float32."""
    paths = {name: make_lora(tmp_path / f"{name}.safetensors", seed=seed) for seed, name in enumerate(("ink", "neon"))}
    loud = {key: tensor.float() * (1e15 if "lora_up" in key else 1) for key, tensor in load_file(paths["neon"]).items()}
    save_file(loud, paths["neon"], Header.read(paths["neon"]).metadata)

    def mix(*tags):
        stack = [(dialects.read(paths[name], NANO), parse(f"<lora:{name}:{text}>").loras[0].strength(1.0)) for name, text in tags]
        return Mix(tuple(stack))

    return mix


def drawn(pipeline, mix, *, on_step=None, **options):
    job = Job(Shot("a cat", 1), mix, "a cat")
    return draw_jobs(Opened(pipeline, "nano"), [job], Drawing(steps=2, **options), on_step)


@pytest.mark.parametrize(
    "tags",
    [[("neon", "1000000")], [("ink", "0.5"), ("neon", "1000000")], [("neon", "1000000"), ("ink", "-1")], [("neon", "unet=0~1000000")]],
)
def test_the_network_that_did_it_is_named(nano, files, tags):
    kept = []
    with pytest.raises(NotFinite, match=r"a picture was not drawn: .*networks, neon alone, at its strength here, .* lower its strength"):
        kept += drawn(nano, files(*tags))
    assert not kept
    assert drawn(nano, files(("ink", "0.5")))  # nothing is left of it


def test_through_diffusers_too(nano, files):
    with pytest.raises(NotFinite, match="networks, neon alone"):
        drawn(nano, files(("neon", "1000000"), ("ink", "0.5")), loader="diffusers")


def test_a_look_on_the_way_says_it_too(nano, files):
    with pytest.raises(NotFinite, match="networks, neon alone"):
        drawn(nano, files(("neon", "1000000")), on_step=lambda progress: progress.look and progress.look())


@pytest.mark.parametrize("part", ["vae", "unet"])
@pytest.mark.parametrize("tags", [[], [("ink", "0.5")]])
def test_the_base_is_not_blamed_on_a_network(nano, files, part, tags):
    broken = copy.deepcopy(nano)
    with torch.no_grad():
        next(getattr(broken, part).parameters()).fill_(float("nan"))
        broken.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NotFinite, match="The base makes them without any network, too: load it in float32"):
        drawn(broken, files(*tags))


def test_a_picture_of_one_colour_is_kept_with_a_word(nano, files):
    flat = copy.deepcopy(nano)
    with torch.no_grad():
        flat.vae.decoder.conv_out.weight.zero_()
    (picture,) = drawn(flat, files(("ink", "1")))
    assert "the picture is one colour everywhere, which too much strength does: lower that of ink" in picture.notes
    (picture,) = drawn(flat, Mix())
    assert not picture.notes
