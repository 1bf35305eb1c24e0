"""diffusers and PEFT are the judges: what they write loads here, what we write loads there, with the same output.

Tolerances: 1e-5 of the largest output for a UNet call in float32 (product.md §6), 2/255 for a picture.
"""

import copy

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from support import close, everything, network

from loraloom.bases import NANO
from loraloom.bases.nano.model import load
from loraloom.dialects import read, write
from loraloom.engine import Engine
from loraloom.lorafile import LoraFile, Mix
from loraloom.strength import Strength

CONFIGS = {
    "plain": {"r": 4, "lora_alpha": 4},
    "alpha": {"r": 4, "lora_alpha": 7},
    "rslora": {"r": 4, "lora_alpha": 3, "use_rslora": True},
    "bias": {"r": 4, "lora_alpha": 6, "lora_bias": True},
    "patterns": {"r": 4, "lora_alpha": 6, "rank_pattern": {"to_k": 2, "attn1.to_q": 3}, "alpha_pattern": {"to_k": 5, "attn2.to_v": 1}},
}
UNET = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1", "ff.net.2", "conv_in"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]


@pytest.fixture(scope="module")
def clean():
    return load()


@pytest.fixture
def pipeline(clean):
    return copy.deepcopy(clean)


def outputs(pipeline) -> list[torch.Tensor]:
    """The text encoder's and the UNet's output on fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    latents, ids = torch.randn(2, 4, 8, 8, generator=generator), torch.arange(64).reshape(2, 32) + 7
    with torch.no_grad():
        text = pipeline.text_encoder(ids).last_hidden_state
        return [text, pipeline.unet(latents, 500, text).sample]


def randomise(model) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


@pytest.mark.parametrize("text", [True, False], ids=["with text encoder", "unet only"])
@pytest.mark.parametrize("naming", ["peft", "diffusers"])
@pytest.mark.parametrize("config", CONFIGS)
def test_what_diffusers_writes_loads_here_with_its_output(clean, pipeline, tmp_path, config, naming, text):
    if config == "bias" and naming == "diffusers":
        pytest.skip("diffusers' own old naming has no bias")
    own = CONFIGS[config]
    pipeline.unet.add_adapter(LoraConfig(target_modules=UNET, **own))
    if text:
        plain = {name: value for name, value in own.items() if "pattern" not in name}
        pipeline.text_encoder.add_adapter(LoraConfig(target_modules=TEXT, **plain))
        randomise(pipeline.text_encoder)
    randomise(pipeline.unet)
    expected = outputs(pipeline)
    trained = {"unet": pipeline.unet} | ({"text_encoder": pipeline.text_encoder} if text else {})
    states = {name: get_peft_model_state_dict(model) for name, model in trained.items()}
    if naming == "diffusers":
        states = {name: convert_state_dict_to_diffusers(state) for name, state in states.items()}
    layers = {f"{name}_lora_layers": state for name, state in states.items()}
    StableDiffusionPipeline.save_lora_weights(tmp_path, **layers, **_collate_lora_metadata(trained))
    file = read(tmp_path / "pytorch_lora_weights.safetensors")
    assert (file.base, file.dialect, file.unknown, file.warnings) == ("nano", "peft", (), ())
    before = outputs(clean)
    assert not close(before[-1], expected[-1], 1e-2)
    for mode in ("merge", "branch"):
        with Engine(clean).attached(Mix(((file, Strength()),)), mode=mode):
            assert all(close(found, wanted) for found, wanted in zip(outputs(clean), expected, strict=True))


@pytest.mark.parametrize("which", ["attention", "everything", "unet only"])
@pytest.mark.parametrize("dialect", ["kohya", "peft"])
def test_what_we_write_loads_in_diffusers_with_our_output(clean, pipeline, tmp_path, dialect, which):
    """Also at another rank and alpha per module. diffusers 0.42 gives the file's commonest alpha to attention layers of a
    kohya file whose own differs (`get_peft_kwargs` looks for other names), so there the alphas are equal."""
    picks = {
        "attention": lambda layer: layer.attention,
        "everything": everything,
        "unet only": lambda layer: layer.attention and not layer.place.is_text,
    }
    small = network(NANO, picks[which], rank=3, alpha=2)
    large = network(NANO, picks[which], rank=5, alpha=2 if dialect == "kohya" else 5, seed=50)
    mixed = {target: (small if index % 3 else large).adapters[target] for index, target in enumerate(small.adapters)}
    path = write(LoraFile(mixed, {}, "nano"), tmp_path / "x.safetensors", dialect, dtype=torch.float32)
    pipeline.load_lora_weights(path)
    theirs = outputs(pipeline)
    with Engine(clean).attached(Mix(((read(path), Strength.of(1)),))):
        ours = outputs(clean)
    assert not close(outputs(clean)[-1], ours[-1], 1e-2)
    assert all(close(found, wanted) for found, wanted in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dialect", ["kohya", "peft"])
def test_pictures_are_equal_too(clean, pipeline, tmp_path, dialect):
    """fp16 files, within 2/255."""
    path = write(network(NANO), tmp_path / "x.safetensors", dialect)
    pipeline.load_lora_weights(path)

    def draw(pipe) -> torch.Tensor:
        pipe.set_progress_bar_config(disable=True)
        return torch.from_numpy(
            pipe("a cat", num_inference_steps=3, output_type="np", generator=torch.Generator().manual_seed(3)).images[0]
        )

    plain = draw(clean)
    with Engine(clean).attached(Mix(((read(path), Strength.of(1)),))):
        ours = draw(clean)
    assert float((ours - draw(pipeline)).abs().max()) <= 2 / 255
    assert float((ours - plain).abs().max()) > 4 / 255
