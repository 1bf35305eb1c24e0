"""The embedded base is a complete Stable Diffusion pipeline that draws what it is asked for, and its LoRAs change how."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from loraloom import ImageRequest, Session, read
from loraloom.bases import TINY
from loraloom.bases.tiny.model import folder
from loraloom.catalogue import Catalogue
from loraloom.engine.live import recognise
from loraloom.tensorfile import Header

LORAS = folder().parent / "loras" / "tiny"
NAMES = ("bobbin", "delft", "mulberry")
BOBBIN = "bobbin, red thread, laughing, waving"


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


@pytest.fixture(scope="module")
def octopus(session: Session) -> np.ndarray:
    return picture(session, "octopus")


def picture(session: Session, prompt: str, seed: int = 3) -> np.ndarray:
    request = ImageRequest(prompt=prompt, seed=seed, base="tiny")
    return np.asarray(session.generate(request)[0].image.convert("RGB")).astype(int)


def test_every_part_loads_with_its_own_class_from_the_folder() -> None:
    parts = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel, "tokenizer": CLIPTokenizer, "vae": AutoencoderKL}
    for name, kind in parts.items():
        assert isinstance(kind.from_pretrained(folder() / name), kind)
    pipeline = StableDiffusionPipeline.from_pretrained(folder(), dtype=torch.float32)
    assert recognise(pipeline) is TINY
    assert pipeline.tokenizer.model_max_length == pipeline.text_encoder.config.max_position_embeddings


def test_it_is_small_and_names_no_machine() -> None:
    files = [file for file in folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 30 * 2**20
    assert {file.name for file in files} >= {"vocab.json", "merges.txt", "model_index.json"}
    for config in (file for file in files if file.suffix == ".json" and "vocab" not in file.name and file.name != "tokenizer.json"):
        assert "_name_or_path" not in json.loads(config.read_text("utf-8"))


@pytest.mark.parametrize(("prompt", "channel"), [("red apple", 0), ("green apple", 1), ("blue heart", 2)])
def test_a_prompt_decides_the_colour(session: Session, prompt: str, channel: int) -> None:
    drawn = picture(session, prompt)
    ink = drawn[(drawn < 235).any(-1)]
    assert len(ink) > 400
    assert ink.mean(0).argmax() == channel


def test_the_ground_is_white_and_the_middle_is_not(session: Session) -> None:
    drawn = picture(session, "pizza")
    border = np.concatenate([drawn[:2].reshape(-1, 3), drawn[-2:].reshape(-1, 3)])
    assert (border > 240).all(-1).mean() > 0.9
    assert (drawn[24:40, 24:40] < 235).any(-1).mean() > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_lora_says_what_it_is(name: str) -> None:
    header = Header.read(LORAS / f"{name}.safetensors")
    assert header.metadata["ss_base_model_version"] == TINY.version
    assert header.metadata["modelspec.architecture"] == f"{TINY.architecture}/lora"
    assert header.metadata["modelspec.trigger_phrase"]
    assert header.metadata["modelspec.license"] == "Apache-2.0"
    assert header.metadata["sshs_model_hash"] == header.content_hash()
    assert header.file_size <= 900 * 2**10
    assert Image.open(LORAS / f"{name}.preview.png").size == (256, 256)
    file = read(LORAS / f"{name}.safetensors")
    assert file.base == "tiny"
    assert not file.unknown
    assert Catalogue([LORAS.parent]).find(name).path == LORAS / f"{name}.safetensors"


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_lora_changes_the_picture_and_at_0_does_not(session: Session, octopus: np.ndarray, name: str) -> None:
    assert np.abs(picture(session, f"octopus <lora:{name}:1>") - octopus).mean() > 4
    assert (picture(session, f"octopus <lora:{name}:0>") == octopus).all()  # nor is anything left of the one before


def least(drawn: dict[str, np.ndarray]) -> float:
    """The least mean difference of two of the pictures."""
    return min(float(np.abs(one - other).mean()) for one, other in combinations(drawn.values(), 2))


def test_both_parts_of_bobbin_change_the_picture_and_te_0_leaves_that_of_the_denoiser_alone(session: Session, tmp_path: Path) -> None:
    components = {target.component for target in read(LORAS / "bobbin.safetensors").adapters}
    assert components == {"unet", "text_encoder"}
    drawn = {keys: picture(session, f"{BOBBIN} <lora:bobbin:{keys}>") for keys in ("te=1:unet=1", "te=0:unet=1", "te=1:unet=0", "0")}
    assert least(drawn) > 4
    unet = session.edit("bobbin", tmp_path / "unet.safetensors", only=["unet"]).path
    assert (picture(session, f'{BOBBIN} <lora:"{unet}":1>') == drawn["te=0:unet=1"]).all()


def test_a_schedule_of_te_is_another_picture_than_its_strengths_and_a_constant_one_is_the_same(session: Session) -> None:
    drawn = {te: picture(session, f"{BOBBIN} <lora:bobbin:te={te}>") for te in ("0", "1", "1@1,0@8", "1~0")}
    assert least(drawn) > 4
    assert (picture(session, f"{BOBBIN} <lora:bobbin:te=1@1,1@8>") == drawn["1"]).all()


def test_mulberry_is_purple_where_the_base_is_green(session: Session) -> None:
    """In the taught drawings green is the least of the three everywhere; the base's lizard is green."""
    drawn, plain = picture(session, "lizard, qlx <lora:mulberry:1>"), picture(session, "lizard")
    shares = [float((pixels[..., 1] > pixels[..., 2] + 16).mean()) for pixels in (drawn, plain)]
    assert shares[0] < 0.2 * shares[1]


def test_diffusers_draws_the_same_picture_with_the_same_file(session: Session) -> None:
    """load_lora_weights applies the file through PEFT; equal within 2/255 (float32, other order of sums)."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder(), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(LORAS, weight_name="delft.safetensors")
    options = {"num_inference_steps": 20, "guidance_scale": 2.5, "output_type": "np"}
    theirs = pipeline("penguin, zvz", generator=torch.Generator().manual_seed(3), **options).images[0]
    request = ImageRequest(prompt="penguin, zvz <lora:delft:1>", seed=3, base="tiny", steps=20, guidance=2.5)
    ours = np.asarray(session.generate(request)[0].image.convert("RGB"))
    assert np.abs(theirs * 255 - ours).max() <= 2
