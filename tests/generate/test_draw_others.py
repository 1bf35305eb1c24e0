"""Laws of drawing with pipelines that know no callback: they draw, count every step, show looks and can be stopped."""

import diffusers
import numpy as np
import pytest
import torch
import transformers

from loraloom.bases.nano.model import load
from loraloom.errors import NotSupported
from loraloom.generate.draw import Clock, Shot, Style, draw

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def pixart(nano):
    """256 px, the smallest that its table of sizes has; T5 of one layer."""
    text = transformers.T5EncoderModel(transformers.T5Config(vocab_size=514, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2))
    denoiser = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=8,
        sample_size=32,
        caption_channels=8,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )
    return diffusers.PixArtAlphaPipeline(nano.tokenizer, text.eval(), nano.vae, denoiser.eval(), diffusers.DPMSolverMultistepScheduler())


def of_sd(kind):
    """A pipeline of Stable Diffusion's parts."""

    def make(nano):
        names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        return kind(
            **{name: getattr(nano, name) for name in names}, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )

    return make


PIPELINES = {
    "PixArt": pixart,
    "ModelEditing": of_sd(diffusers.StableDiffusionModelEditingPipeline),
    "SAG": of_sd(diffusers.StableDiffusionSAGPipeline),
}


@pytest.fixture(scope="module", params=["PixArt", "ModelEditing", "SAG"])
def pipeline(request):
    torch.manual_seed(0)
    made = PIPELINES[request.param](load())
    made.set_progress_bar_config(disable=True)
    return made


def test_it_draws_and_counts_every_step(pipeline):
    heard = []
    images = list(draw(pipeline, [Shot("a cat", 1), Shot("a dog", 2)], Style(4, 2.5), clock=Clock(8, heard.append)))
    assert [progress.step for progress in heard] == [2, 4, 6, 8]
    assert len(images) == 2
    again = list(draw(pipeline, [Shot("a cat", 1), Shot("a dog", 2)], Style(4, 2.5)))
    assert all((np.asarray(one) == np.asarray(other)).all() for one, other in zip(images, again, strict=True))


def test_a_step_shows_a_look_and_can_stop_the_run(pipeline):
    class Stop(Exception):
        pass

    looks = []

    def stop(progress):
        looks.append(progress.look().size)
        if progress.step == 2:
            raise Stop

    before = pipeline.scheduler
    with pytest.raises(Stop):
        list(draw(pipeline, [Shot("a cat", 1)], Style(4), clock=Clock(4, stop)))
    assert len(looks) == 2
    assert pipeline.scheduler is before
    assert "step" not in vars(before)


def test_a_pipeline_without_a_scheduler_of_its_own_is_refused_by_name():
    class Several:
        prior_scheduler = diffusers.DDPMScheduler()

        def __call__(self, prompt, num_inference_steps, generator): ...

    with pytest.raises(NotSupported, match="Several has no scheduler of its own"):
        list(draw(Several(), [Shot("a cat", 1)], Style(2)))
