"""The weights of a base by target are those of the classes that run it, from every layout, and only what is asked for is read."""

import shutil

import diffusers
import pytest
import torch
import transformers
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_ldm_unet_checkpoint, convert_open_clip_checkpoint
from safetensors.torch import load_file, save_file

from layouts import LAYOUTS, saved, single_file
from loraloom.basefile import open_base
from loraloom.bases import NANO, NANOXL, SD1, SD2, SDXL, TINY, Target
from loraloom.bases.nanoxl.model import load as load_nanoxl
from loraloom.bases.tiny.model import folder as tiny_folder
from loraloom.engine.live import live_modules
from loraloom.errors import BaseError, FileError, NotSafetensors

CONV_IN = Target("unet", "conv_in")


@pytest.fixture(scope="module")
def pipelines(nano):
    return {NANO: nano, NANOXL: load_nanoxl()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("base", [NANO, NANOXL], ids=lambda base: base.family)
def test_every_layout_gives_the_weights_of_the_live_modules(pipelines, tmp_path, base, layout):
    path = saved(pipelines[base], base, tmp_path / "my base.safetensors", layout)
    with open_base(path) as file:
        expected = ("unet",) if "unet" in layout else base.components
        assert (file.base, file.name, file.components) == (base, "my base", expected)
        for target, module in live_modules(pipelines[base], base).items():
            if target.component not in expected:
                continue
            assert torch.equal(file.weight(target), module.weight)
            bias = file.parameter(target, "bias")
            assert (bias is None) == (getattr(module, "bias", None) is None)
            assert bias is None or torch.equal(bias, module.bias)
        assert {key.partition("/")[0] for key in file.others} == ({"vae"} if path.is_dir() else set())


@pytest.mark.parametrize("base", [NANO, NANOXL], ids=lambda base: base.family)
def test_diffusers_reads_the_same_from_a_checkpoint_of_one_file(pipelines, tmp_path, base, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline = pipelines[base]
    pipeline.save_pretrained(tmp_path / "config")
    save_file(single_file(pipeline, base), tmp_path / "base.safetensors")
    kind = getattr(diffusers, type(pipeline).__name__)
    loaded = kind.from_single_file(
        str(tmp_path / "base.safetensors"), config=str(tmp_path / "config"), vae=pipeline.vae, local_files_only=True
    )
    for component in base.components:
        ours, theirs = getattr(pipeline, component).state_dict(), getattr(loaded, component).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def original_keys(base):
    """The checkpoint of one file of a family at full size, without values."""
    shapes = {}
    for layer in base.layers:
        for parameter in ("weight",) if layer.kind == "embedding" else ("weight", "bias"):
            for place in base.single_file[layer.target.component].places(layer.target.module, layer.original, parameter)[:1]:
                shape = layer.shape if parameter == "weight" else layer.shape[:1]
                shape = shape[::-1] if place.turned else shape
                shapes[place.key] = shape if place.part is None else (3 * shape[0], *shape[1:])
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


TEXT = {"hidden_act": "gelu", "vocab_size": 49408, "max_position_embeddings": 77}
ENCODERS = {  # the published configurations
    "clip-l": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "clip-h": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
    "clip-g": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "projection_dim": 1280},
}


@pytest.mark.parametrize(
    ("base", "config", "kind", "prefix"),
    [
        (SD1, "clip-l", "CLIPTextModel", None),
        (SD2, "clip-h", "CLIPTextModel", "cond_stage_model.model."),
        (SDXL, "clip-l", "CLIPTextModel", None),
        (SDXL, "clip-g", "CLIPTextModelWithProjection", "conditioner.embedders.1.model."),
    ],
)
def test_text_encoders_of_full_size_are_named_as_diffusers_converts_them(base, config, kind, prefix):
    with torch.device("meta"):
        model = getattr(transformers, kind)(transformers.CLIPTextConfig(**ENCODERS[config], **TEXT))
    checkpoint = original_keys(base)
    converted = convert_open_clip_checkpoint(model, checkpoint, prefix) if prefix else convert_ldm_clip_checkpoint(checkpoint)
    wrapped = hasattr(model, "text_model")  # transformers 5 dropped it for CLIPTextModel
    found = {key if wrapped else key.removeprefix("text_model."): tuple(value.shape) for key, value in converted.items()}
    assert found == {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("base", [SD1, SDXL], ids=lambda base: base.family)
def test_the_unet_of_full_size_is_named_as_diffusers_converts_it(base):
    checkpoint = {key: value for key, value in original_keys(base).items() if key.startswith("model.diffusion_model.")}
    names = {layer.target.module for layer in base.layers if not layer.place.is_text}
    config = {"layers_per_block": 2, "class_embed_type": None, "addition_embed_type": "text_time" if base is SDXL else None}
    converted = convert_ldm_unet_checkpoint(dict(checkpoint), config)
    assert {key.rpartition(".")[0] for key in converted} == names
    assert len(converted) == len(checkpoint)


def test_a_text_encoder_of_sd2_is_cut_from_what_openclip_fused():
    """q, k and v are the thirds of in_proj's rows, in this order: torch's MultiheadAttention, which OpenCLIP uses."""
    renamed = SD2.single_file["text_encoder"].renamed
    places = [renamed[f"text_model.encoder.layers.22.self_attn.{name}_proj.bias"] for name in "qkv"]
    assert {place.key for place in places} == {"transformer.resblocks.22.attn.in_proj_bias"}
    assert [place.part for place in places] == [0, 1, 2]


def test_the_embedded_base_is_read_without_a_pipeline():
    with open_base(tiny_folder()) as file:
        assert (file.base, file.components) == (TINY, ("unet", "text_encoder"))
        assert file.weight(CONV_IN).dtype == torch.float16


def test_a_hash_tells_checkpoints_apart_and_metadata_of_the_name_does_not(pipelines, tmp_path):
    path = saved(pipelines[NANO], NANO, tmp_path / "a.safetensors", "single file")
    shutil.copy(path, tmp_path / "b.safetensors")
    tensors = load_file(path)
    tensors["model.diffusion_model.out.2.bias"] += 1
    save_file(tensors, tmp_path / "c.safetensors")
    digests = []
    for name in "abc":
        with open_base(tmp_path / f"{name}.safetensors") as file:
            digests.append(file.digest)
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


def replaced(path, **tensors):
    save_file(load_file(path) | tensors, path)


def test_weights_that_are_missing_of_another_shape_or_quantised_are_errors_that_name_them(pipelines, tmp_path):
    path = saved(pipelines[NANO], NANO, tmp_path / "x.safetensors", "single file")
    text = "cond_stage_model.transformer.text_model."
    replaced(
        path,
        **{
            f"{text}final_layer_norm.weight": torch.ones(7),
            f"{text}encoder.layers.0.mlp.fc1.weight": torch.ones(96, 24, dtype=torch.int8),
        },
    )
    tensors = load_file(path)
    del tensors[f"{text}encoder.layers.0.mlp.fc2.weight"]
    save_file(tensors, path)
    with open_base(path) as file:
        for module, reason in (
            ("final_layer_norm", r"final_layer_norm \[7\], loraloom nano 1 has \[24\]"),
            ("encoder.layers.0.mlp.fc1", "stored as torch.int8; the weights of a quantised model"),
            ("encoder.layers.0.mlp.fc2", "x has no weight of text_encoder.text_model.encoder.layers.0.mlp.fc2"),
        ):
            with pytest.raises(BaseError, match=reason):
                file.weight(Target("text_encoder", f"text_model.{module}"))


def test_what_is_no_base_says_what_it_is(tmp_path, make_lora):
    (tmp_path / "old.ckpt").write_bytes(b"PK\3\4" + b"x" * 40)
    with pytest.raises(NotSafetensors, match="this is a pickle"), open_base(tmp_path / "old.ckpt"):
        pass
    with pytest.raises(BaseError, match="this is a LoRA"), open_base(make_lora(tmp_path / "lora.safetensors")):
        pass
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BaseError, match="not a base model of a family"), open_base(tmp_path / "other.safetensors"):
        pass
    (tmp_path / "folder" / "unet").mkdir(parents=True)
    with pytest.raises(BaseError, match="no unet/ with safetensors"), open_base(tmp_path / "folder"):
        pass
    (tmp_path / "folder" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(BaseError, match=r"diffusion_pytorch_model\.bin is a pickle"), open_base(tmp_path / "folder"):
        pass


def test_folders_whose_files_do_not_belong_together_are_errors(nano, tmp_path):
    path = saved(nano, NANO, tmp_path / "base", "shards")
    index = path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    whole = index.read_text()
    index.write_text(whole.replace("diffusion_pytorch_model-00001", "../x-00001"))
    with pytest.raises(NotSafetensors, match="names files outside of its folder"), open_base(path):
        pass
    index.write_text("[1]")
    with pytest.raises(NotSafetensors, match="not an index"), open_base(path):
        pass
    index.write_text(whole)
    next((path / "unet").glob("*-00001-of-*")).unlink()
    with pytest.raises(FileError, match="00001-of-"), open_base(path):
        pass
    shutil.rmtree(path)
    saved(nano, NANO, path, "folder")
    plain = path / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(plain, plain.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    with open_base(path) as file:  # the plain ones count
        assert file.base is NANO
    plain.rename(plain.with_name("diffusion_pytorch_model.bf16.safetensors"))
    with pytest.raises(BaseError, match="as bf16 and non_ema; leave the one"), open_base(path):
        pass


def test_a_file_that_is_written_to_while_it_is_open_is_an_error(nano, tmp_path):
    path = saved(nano, NANO, tmp_path / "x.safetensors", "single file")
    with pytest.raises(FileError, match="was changed while it was read"), open_base(path) as file:
        path.write_bytes(path.read_bytes()[: len(file.digest)])
