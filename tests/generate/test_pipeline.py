"""Laws of opening: a base is found by any of its kinds of names, and a name that is none is an error that helps."""

import os
import pickle

import numpy as np
import pytest
import torch

from loraloom.errors import BaseError, NotSafetensors
from loraloom.generate.draw import Shot, Style, draw
from loraloom.generate.pipeline import open_pipeline


def test_a_folder_in_diffusers_layout_draws_as_the_pipeline_that_was_saved(nano, tmp_path, capfd):
    nano.save_pretrained(tmp_path / "mine")
    capfd.readouterr()
    opened = open_pipeline(str(tmp_path / "mine"))
    images = [next(draw(pipeline, [Shot("a cat", 1)], Style(3))) for pipeline in (nano, opened)]
    assert (np.asarray(images[0]) == np.asarray(images[1])).all()
    assert "it/s" not in capfd.readouterr().err  # no progress bars but ours


def test_what_is_held_in_another_dtype_is_read_in_it_and_the_vae_in_the_usual_one(nano, tmp_path):
    nano.save_pretrained(tmp_path / "mine")
    opened = open_pipeline(str(tmp_path / "mine"), torch.bfloat16)
    found = {name: getattr(opened, name).dtype for name in ("unet", "text_encoder", "vae")}
    assert found == {"unet": torch.bfloat16, "text_encoder": torch.bfloat16, "vae": torch.float32}
    whole = nano.unet.state_dict()
    assert all(torch.equal(tensor, whole[name].bfloat16()) for name, tensor in opened.unet.state_dict().items())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nanu", 'no such base model; did you mean "nano"?'),
        ("zzzzz", "a base is tiny, nano, a folder in diffusers' layout"),
        ("models/inc.safetensors", 'no such file; did you mean "ink.safetensors"?'),
        ("models/ink.safetensors", "this is a LoRA; write it in the prompt, as in <lora:ink>"),
        ("models", "it has no model_index.json); it holds broken"),
        ("models/broken", "cannot be loaded"),
    ],
)
def test_a_name_that_is_no_base_says_what_to_do(tmp_path, monkeypatch, make_lora, source, message):
    monkeypatch.chdir(tmp_path)
    make_lora(tmp_path / "models" / "ink.safetensors")
    (tmp_path / "models" / "broken").mkdir()
    index = tmp_path / "models" / "broken" / "model_index.json"
    index.write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "X"]}')
    with pytest.raises(BaseError) as error:
        open_pipeline(source)
    assert message in str(error.value)


def test_a_hub_that_cannot_be_reached_is_an_error_that_names_what_works(monkeypatch):
    import diffusers

    def offline(*_, **options):
        assert options["use_safetensors"]
        raise OSError("Cannot load model") from ConnectionError("Name or service not known")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", offline)
    with pytest.raises(BaseError, match="the hub cannot be reached; without a network, use tiny or nano or a folder"):
        open_pipeline("owner/name@abc123")


def test_a_pickle_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    for name in ("base.ckpt", "base.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(NotSafetensors, match="pickle"):
            open_pipeline(str(tmp_path / name))
    assert not (tmp_path / "exploded").exists()
