"""Laws of drawing that begins with a picture: little denoising stays near it, a mask keeps what is black, bad input is refused."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from loraloom import ImageRequest, Session
from loraloom.errors import Interrupted, SettingsError
from loraloom.generate.source import source

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # diffusers 0.42 with NumPy 2.4


def encoded(image, kind="PNG", **options):
    target = io.BytesIO()
    image.save(target, kind, **options)
    return base64.b64encode(target.getvalue()).decode()


def pixels(image):
    return np.asarray(image.convert("RGB"), dtype=int)


@pytest.fixture(scope="module")
def session():
    return Session()


@pytest.fixture(scope="module")
def apple(session):
    return session.generate(ImageRequest(prompt="red apple", seed=1, base="tiny"))[0].image


def draw(session, **values):
    return session.generate(ImageRequest(**{"seed": 2, "base": "tiny", **values}))[0]


def test_less_denoising_stays_nearer(session, apple):
    near, far = (draw(session, prompt="green apple", image=encoded(apple), denoise=part) for part in (0.1, 0.9))
    distances = [abs(pixels(picture.image) - pixels(apple)).mean() for picture in (near, far)]
    assert distances[0] < distances[1] / 2
    assert near.recipe.extra["Denoising strength"] == "0.1"


def test_what_the_mask_leaves_black_stays(session, apple):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    found = draw(session, prompt="blueberries", image=encoded(apple), mask=encoded(mask), denoise=1.0).image
    difference = abs(pixels(found) - pixels(apple)).mean(axis=(0, 2))
    assert difference[:24].mean() < 8  # the autoencoder's own error; 16 latent columns meet at pixel 32
    assert difference[40:].mean() > 20


def test_a_batch_equals_its_pictures_alone(session, apple):
    request = ImageRequest(
        prompt="apple, zvz <lora:delft:0.5>", seed=5, pictures=3, image=encoded(apple), denoise=0.5, base="tiny", steps=8
    )
    together = session.generate(request)
    for picture in together:
        alone = session.generate(request.model_copy(update={"pictures": 1, "seed": picture.seed}))[0]
        assert abs(pixels(alone.image) - pixels(picture.image)).max() <= 1


def test_progress_counts_the_steps_that_are_run_and_shows_the_picture(session, apple):
    seen = []
    session.generate(
        ImageRequest(prompt="pear", seed=1, image=encoded(apple), denoise=0.5, steps=8, base="tiny"),
        lambda progress: seen.append((progress.step, progress.steps, progress.look().size)),
    )
    assert seen == [(step, 4, (64, 64)) for step in (1, 2, 3, 4)]


def test_the_last_look_is_the_picture(session):
    looks = []
    picture = session.generate(ImageRequest(prompt="pear", seed=1, base="tiny"), lambda progress: looks.append(progress.look()))[0]
    assert abs(pixels(looks[-1]) - pixels(picture.image)).max() <= 1


def test_an_interrupted_job_leaves_the_base_as_it_was(session):
    request = ImageRequest(prompt="pear, zvz <lora:delft:1>", seed=1, base="tiny")
    before = session.generate(request)[0].image

    def stop(progress):
        if progress.step == 3:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        session.generate(request.model_copy(update={"prompt": "pear"}), stop)
    assert (pixels(session.generate(request)[0].image) == pixels(before)).all()


def test_sizes_are_multiples_of_eight_and_a_picture_is_cut_to_its_size():
    plain = ImageRequest(prompt="", image=encoded(Image.new("RGB", (70, 33))))
    assert source(plain).image.size == (72, 32)
    assert source(plain.model_copy(update={"width": 16, "height": 64})).image.size == (16, 64)


def test_data_uris_transparency_and_orientation_are_understood():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned = ImageRequest(prompt="", image="data:image/jpeg;base64," + encoded(Image.new("RGB", (16, 8)), "JPEG", exif=exif))
    assert source(turned).image.size == (8, 16)
    clear = ImageRequest(prompt="", image=encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert (pixels(source(clear).image) == 255).all()


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        "data:image/png;base64,",
        base64.b64encode(b"GIF89a").decode(),
        base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 40).decode(),
        encoded(Image.effect_noise((64, 64), 50))[:400],
        encoded(Image.new("1", (9000, 8))),
    ],
)
def test_what_is_no_picture_is_refused_before_anything_is_opened(text):
    with pytest.raises(SettingsError, match=r"^image: "):
        Session().check(ImageRequest(prompt="", image=text))


def test_a_mask_without_a_picture_and_a_denoise_without_a_step_are_refused(session, apple):
    with pytest.raises(SettingsError, match="a mask needs an image"):
        ImageRequest.of(prompt="", mask="abcd")
    with pytest.raises(SettingsError, match="leaves none; take 0\\.05 or more"):
        draw(session, prompt="", image=encoded(apple), denoise=0.01, steps=20)
