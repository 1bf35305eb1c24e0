"""Laws of drawing: seeds reproduce, a batch equals its pictures alone, every sampler goes the way of the base's own."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from loraloom.bases.nano.model import load
from loraloom.errors import NotSupported, SettingsError
from loraloom.generate.draw import Clock, Shot, Style, draw, own_sampler
from loraloom.generate.pipeline import scheduler
from loraloom.generate.samplers import SAMPLERS

# diffusers 0.42 with NumPy 2.4; nothing that a user sees
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


def pixels(image):
    return np.asarray(image, dtype=int)


def drawn(pipeline, shots, style, **more):
    return list(draw(pipeline, shots, style, **more))


def test_the_same_seed_gives_the_same_bits(nano):
    first, again, other = (drawn(nano, [Shot("a cat", seed)], Style(4))[0] for seed in (3, 3, 4))
    assert (pixels(first) == pixels(again)).all()
    assert (pixels(first) != pixels(other)).any()


@pytest.mark.parametrize("sampler", [None, "Euler a", "DPM++ 2M SDE"])
def test_a_batch_equals_its_pictures_alone(nano, sampler):
    style = Style(4, 2.5, sampler=sampler)
    shots = [Shot("a cat", 3, "dog"), Shot("a red house on a hill", 3), Shot("", 8), *(Shot("a cat", seed) for seed in range(20))]
    together = drawn(nano, shots, style)  # more than one batch
    for shot, picture in list(zip(shots, together, strict=True))[::5]:
        alone = drawn(nano, [shot], style)[0]
        assert abs(pixels(alone) - pixels(picture)).max() <= 1  # of 255: matrix products of another height round differently


def test_sizes_are_what_was_asked_for(nano):
    assert drawn(nano, [Shot("a cat", 1)], Style(2, width=24, height=40))[0].size == (24, 40)


def test_the_pipeline_is_left_as_it_was(nano):
    def interrupt(_):
        raise KeyboardInterrupt

    before = nano.scheduler
    drawn(nano, [Shot("a cat", 1)], Style(2, sampler="Euler"))
    with pytest.raises(KeyboardInterrupt):
        drawn(nano, [Shot("a cat", 1)], Style(2, sampler="Euler"), clock=Clock(2, interrupt))
    assert nano.scheduler is before
    assert own_sampler(nano) == "DDIM"


def test_a_vae_in_another_dtype_than_the_denoiser_decodes_and_is_left_as_it_was():
    mixed = load()
    before = next(draw(mixed, [Shot("a cat", 1)], Style(2)))
    mixed.unet.to(torch.bfloat16), mixed.text_encoder.to(torch.bfloat16)
    after = next(draw(mixed, [Shot("a cat", 1)], Style(2)))
    assert np.abs(np.asarray(before, float) - np.asarray(after, float)).mean() < 4  # of 255: the same picture, less exactly
    assert "decode" not in vars(mixed.vae)
    mine = vars(mixed.vae)["decode"] = mixed.vae.decode  # a compiled one, say
    next(draw(mixed, [Shot("a cat", 1)], Style(2)))
    assert vars(mixed.vae)["decode"] is mine


def test_progress_counts_every_step_of_every_picture(nano):
    heard = []
    shots = [Shot("a cat", seed) for seed in range(20)]
    for sampler in (None, "Heun", "PLMS"):
        heard.clear()
        drawn(nano, shots, Style(3, sampler=sampler), clock=Clock(60, heard.append))
        assert [progress.step for progress in heard] == [16, 32, 48, 52, 56, 60]
    assert heard[0].rate == 0
    assert heard[0].seconds_left == math.inf
    assert heard[-1].seconds_left == 0


@pytest.fixture(scope="module")
def exact(zero_snr):
    """The picture of the base's own sampler in many steps."""
    return drawn(zero_snr, [Shot("a cat", 1)], Style(200, 1.0))[0]


# The samplers that add no noise of their own solve one equation: with many steps all come to the picture of the base's own
# sampler. The embedded base is of this kind: v-prediction, zero terminal SNR, trailing timesteps. Mean differences of 255 that
# were measured: 0.96 for Euler, PLMS and DDIM, 0.33 to 0.59 for the others; with the wrong betas 1.2 for Heun and DPM2, 1.7 for PLMS.
@pytest.mark.parametrize(
    ("sampler", "near"), [("Euler", 1.1), ("PLMS", 1.1), ("DDIM", 1.1), ("Heun", 0.8), ("DPM2", 0.8), ("DPM++ 2M", 0.8), ("UniPC", 0.8)]
)
def test_samplers_agree_on_a_base_with_zero_terminal_snr(zero_snr, exact, sampler, near):
    [found] = drawn(zero_snr, [Shot("a cat", 1)], Style(40, 1.0, sampler=sampler))
    assert abs(pixels(found) - pixels(exact)).mean() < near


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if not name.startswith("LMS")])
def test_every_sampler_draws(nano, zero_snr, sampler):
    for pipeline in (nano, zero_snr):
        [image] = drawn(pipeline, [Shot("a cat", 1)], Style(5, 2.5, sampler=sampler))
        assert pixels(image).std() > 5


@pytest.mark.skipif(find_spec("scipy") is not None, reason="scipy is installed")
def test_a_sampler_whose_package_is_missing_says_so(nano):
    with pytest.raises(NotSupported, match="sampler LMS needs scipy, which is not installed; pip install scipy"):
        drawn(nano, [Shot("a cat", 1)], Style(5, sampler="LMS"))


def test_a_sampler_that_cannot_make_these_steps_says_so(nano, zero_snr):
    with pytest.raises(SettingsError, match="LCM does not run with 60 steps"):
        scheduler("LCM", nano.scheduler, 60)
    with pytest.raises(NotSupported, match="DPM\\+\\+ 2M Karras with 100 steps repeats its first timestep"):
        scheduler("DPM++ 2M Karras", zero_snr.scheduler, 100)


def test_a_pipeline_of_another_kind_is_refused():
    class Video:
        def __call__(self, prompt, num_inference_steps): ...

    pipeline = Video()
    pipeline.scheduler = DDIMScheduler()
    with pytest.raises(NotSupported, match="Video takes no generator"):
        drawn(pipeline, [Shot("a cat", 1)], Style(2))


@pytest.fixture(scope="module")
def zero_snr():
    pipeline = load()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    return pipeline
