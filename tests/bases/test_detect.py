"""Which base a file is for: metadata first, then names and widths; both sides named when it is refused."""

import pytest
import torch
from safetensors.torch import save_file

from loraloom.bases import NANO, SD1, SDXL, TINY
from loraloom.bases.detect import detect
from loraloom.dialects import read
from loraloom.errors import ShapeMismatch, UnknownFormat, WrongBase

UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
PEFT = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.weight"
OLD = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight"
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"


@pytest.mark.parametrize("key", [UNET, PEFT, OLD.replace("_lora.down", "_lora.lora.down")])
@pytest.mark.parametrize(
    ("width", "title"),
    [
        (768, "SD 1.x"),
        (1024, "SD 2.x"),
        (2048, "SDXL"),
        (192, "loraloom tiny 1"),
        (24, "loraloom nano 1"),
        (40, "loraloom nanoxl 1"),
        (640, "an unknown base"),
    ],
)
def test_cross_attention_tells_the_family(key, width, title):
    found = detect({key: (4, width), TEXT: (4, 768)}, {})
    assert (found.title, found.evidence) == (title, (f"cross-attention {width} wide",))
    assert found.confident


@pytest.mark.parametrize(("width", "title"), [(768, "SD 1.x"), (1024, "SD 2.x"), (192, "loraloom tiny 1")])
@pytest.mark.parametrize(
    "key", [TEXT, TEXT.replace("lora_te_", "lora_te1_"), "text_encoder.encoder.layers.0.self_attn.q_proj.lora_A.weight"]
)
def test_without_a_denoiser_the_text_encoder_tells(key, width, title):
    assert detect({key: (4, width)}, {}).title == title


TEXT_2 = TEXT.replace("lora_te_", "lora_te2_")


@pytest.mark.parametrize(
    ("widths", "version", "title", "told"),
    [
        ({TEXT: 768, TEXT_2: 1280}, None, "SDXL", "text encoders 768 and 1280 wide"),
        ({TEXT_2: 1280}, None, "SDXL", "text encoder 1280 wide"),
        ({TEXT: 16, TEXT_2: 24}, None, "loraloom nanoxl 1", "text encoders 16 and 24 wide"),
        ({TEXT: 768}, "sdxl_base_v1-0", "SDXL", "text encoder 768 wide"),  # its first text encoder alone
        ({TEXT: 768}, "flux1", "Flux.1", "text encoder 768 wide"),
        ({TEXT: 768, TEXT_2: 1280}, "sd3", "SD 3", "text encoders 768 and 1280 wide"),
        ({TEXT: 768, TEXT_2: 1024}, None, "an unknown base", "text encoders 768 and 1024 wide"),
    ],
)
def test_text_encoders_that_families_share_leave_it_to_the_metadata(widths, version, title, told):
    found = detect({key: (4, width) for key, width in widths.items()}, {"ss_base_model_version": version} if version else {})
    assert (found.title, found.evidence[-1], found.contradictions) == (title, told, ())


def test_text_encoders_beside_an_unknown_transformer_say_nothing():
    found = detect({"transformer.transformer_blocks.5.attn.to_q.lora_A.weight": (4, 1150), TEXT: (4, 768)}, {})
    assert (found.title, found.confident) == ("an unknown base", False)


def test_text_encoders_that_the_named_family_has_not_are_a_contradiction():
    found = detect({TEXT: (4, 768), TEXT_2: (4, 1280)}, {"ss_base_model_version": "sd_v1"})
    assert (found.title, len(found.contradictions)) == ("SDXL", 1)


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        (["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"], "Flux.1"),
        (["transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"], "Flux.1"),
        (["lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight"], "SD 3"),
        (["lora_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_q.lora_down.weight"], "SDXL"),
        (["unet.down_blocks.2.attentions.0.transformer_blocks.2.attn1.to_q.lora_A.weight"], "SDXL"),
        (["lora_unet_conv_in.lora_down.weight", "lora_te1_x", "lora_te2_x"], "SDXL"),
        (["transformer.transformer_blocks.5.attn.to_q.lora_A.weight"], "an unknown base"),
        (["lora_unet_conv_in.lora_down.weight"], "an unknown base"),
        ([], "an unknown base"),
    ],
)
def test_names_that_only_one_family_has(keys, title):
    assert detect(dict.fromkeys(keys, (4, 320)), {}).title == title


@pytest.mark.parametrize(
    ("keys", "title", "confidence"),
    [
        ({"transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_A.weight": 6144}, "Flux.2", "certain"),
        (
            {"lora_unet_txt_in.lora_down.weight": 15360, "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": 6144},
            "Flux.2",
            "certain",
        ),
        ({"diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight": 6144}, "Flux.2", "certain"),
        ({"lora_unet_single_blocks_47_linear1.lora_down.weight": 3072}, "Flux.2", "certain"),
        ({"lora_unet_txt_in.lora_down.weight": 4096, "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": 3072}, "Flux.1", "likely"),
        ({"base_model.model.double_blocks.0.img_attn.qkv.lora_A.weight": 3072}, "Flux.1", "likely"),
        ({"double_blocks.0.processor.qkv_lora1.down.weight": 3072}, "Flux.1", "likely"),
        ({"lora_unet_distilled_guidance_layer_in_proj.lora_down.weight": 64}, "Chroma", "certain"),
        ({"lora_unet_double_blocks_19_img_attn_qkv.lora_down.weight": 3072}, "Hunyuan Video", "certain"),
        ({"diffusion_model.double_blocks.0.img_attn_qkv.lora_A.weight": 3072}, "Hunyuan Video", "certain"),
        ({"lora_unet_joint_blocks_3_x_block_attn_qkv.lora_down.weight": 1536}, "SD 3", "likely"),
        ({"lora_unet_joint_blocks_3_x_block_attn2_qkv.lora_down.weight": 1536}, "SD 3.5", "certain"),
        ({"lora_unet_joint_blocks_37_x_block_attn_qkv.lora_down.weight": 2432}, "SD 3.5", "certain"),
        ({"transformer.transformer_blocks.3.attn.to_q.lora_A.weight": 2432}, "SD 3.5", "certain"),
        ({"transformer.transformer_blocks.3.attn.to_q.lora_A.weight": 1536}, "SD 3", "likely"),
        ({"transformer.transformer_blocks.3.attn.to_q.lora_A.weight": 3072}, "an unknown base", "cannot tell"),  # Flux.1 or Qwen-Image
        ({"transformer.transformer_blocks.59.attn.to_q.lora_A.weight": 3072}, "Qwen-Image", "certain"),
        ({"lora_unet_transformer_blocks_0_img_mlp_net_2.lora_down.weight": 12288}, "Qwen-Image", "certain"),
        ({"lora_unet__layers_0_attention_qkv.lora_down.weight": 3840}, "Z-Image", "certain"),
        ({"transformer.layers.0.attention.to_q.lora_A.weight": 3840}, "Z-Image", "certain"),
        ({"diffusion_model.layers.0.attention.qkv.lora_A.weight": 2304}, "Lumina 2", "certain"),
        ({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": 5120}, "Wan", "certain"),
        ({"lora_unet_blocks_0_cross_attn_k_img.lora_down.weight": 5120}, "Wan", "certain"),
        ({"transformer.blocks.0.attn1.to_q.lora_A.weight": 1536}, "Wan", "certain"),
        ({"lora_unet_blocks_0_self_attn_q_proj.lora_down.weight": 2048}, "Anima", "certain"),
        ({"lora_prior_unet_down_blocks_0_0_x.lora_down.weight": 2048}, "Stable Cascade", "certain"),
        ({TEXT: 768}, "SD 1.x", "likely"),
        ({UNET: 768}, "SD 1.x", "certain"),
        ({UNET.replace("lora_down.weight", "hada_w1_b"): 1024}, "SD 2.x", "certain"),
        ({UNET.replace("lora_down.weight", "a1.weight"): 2048}, "SDXL", "certain"),
        ({UNET: 640}, "an unknown base", "cannot tell"),
    ],
    ids=str,
)
def test_families_that_have_no_table_are_recognised_all_the_same(keys, title, confidence):
    found = detect({key: (4, width) for key, width in keys.items()}, {})
    assert (found.title, found.confidence) == (title, confidence)


DOUBLE, SINGLE = "lora_unet_double_blocks_0_img", "diffusion_model.single_blocks.0"


@pytest.mark.parametrize(
    ("shapes", "title", "confidence"),
    [
        # Flux.2's 4B is as wide as Flux.1: what is fused with what, and the feed-forward layers, are not.
        ({f"{SINGLE}.linear1.lora_A.weight": (4, 3072), f"{SINGLE}.linear1.lora_B.weight": (27648, 4)}, "Flux.2", "certain"),
        ({f"{SINGLE}.linear1.lora_A.weight": (4, 3072), f"{SINGLE}.linear1.lora_B.weight": (21504, 4)}, "Flux.1", "likely"),
        ({f"{SINGLE}.linear1.lokr_w1": (16, 16), f"{SINGLE}.linear1.lokr_w2": (1728, 192)}, "Flux.2", "certain"),
        ({f"{SINGLE}.linear2.lora_A.weight": (4, 12288)}, "Flux.2", "certain"),
        ({f"{SINGLE}.linear2.lora_A.weight": (4, 15360)}, "Flux.1", "likely"),
        ({f"{DOUBLE}_mlp_0.lora_up.weight": (18432, 4)}, "Flux.2", "certain"),
        ({f"{DOUBLE}_mlp_0.lora_up.weight": (12288, 4)}, "Flux.1", "likely"),
        ({f"{DOUBLE}_mlp_2.lora_down.weight": (4, 9216)}, "Flux.2", "certain"),
        ({f"{DOUBLE}_attn_qkv.lora_down.weight": (4, 3072), f"{DOUBLE}_attn_qkv.lora_up.weight": (9216, 4)}, "Flux.1", "likely"),
        ({"lycoris_transformer_blocks_0_ff_linear_in.lokr_w1": (16, 16)}, "Flux.2", "certain"),
        ({"transformer.joint_transformer_blocks.0.attn.to_q.lora_A.weight": (4, 3072)}, "AuraFlow", "certain"),
        ({"transformer.single_transformer_blocks.9.ff.linear_1.lora_A.weight": (4, 3072)}, "AuraFlow", "certain"),
        ({"diffusion_model.single_layers.0.attn.w1q.lora_A.weight": (4, 3072)}, "AuraFlow", "certain"),
        (
            {f"{DOUBLE}_attn_qkv.lora_down.weight": (4, 3584), "lora_unet_double_blocks_0_img_mod_linear.alpha": ()},
            "HunyuanImage",
            "certain",
        ),
        ({f"{DOUBLE}_attn_q.lora_down.weight": (4, 2048)}, "HunyuanVideo 1.5", "certain"),
        (
            {"lora_unet_transformer_blocks_19_attn_to_q.alpha": (), "lora_unet_single_transformer_blocks_0_attn_to_q.alpha": ()},
            "Hunyuan Video",
            "likely",
        ),
        ({"diffusion_model.noise_refiner.0.attn.to_q.lora_A.weight": (4, 2520)}, "Z-Image", "likely"),
        ({"diffusion_model.layers.0.attention.qkv.lora_A.weight": (4, 4608)}, "Ideogram 4", "certain"),
        ({"lora_unet_blocks_6_attn_wv.lora_down.weight": (4, 6144)}, "Krea 2", "certain"),
        ({"diffusion_model.layers.0.self_attention.to_q.lora_A.weight": (4, 3072)}, "ERNIE-Image", "certain"),
    ],
    ids=str,
)
def test_families_of_one_width_are_told_apart_or_not_claimed_for_certain(shapes, title, confidence):
    found = detect(shapes, {})
    assert (found.title, found.confidence) == (title, confidence)


def test_only_what_is_certain_rules_a_family_out():
    flux = detect({f"{DOUBLE}_attn_qkv.lora_down.weight": (4, 3072)}, {})
    assert not flux.rules_out({"Flux.2"})
    assert not flux.rules_out({"AuraFlow"})
    assert flux.rules_out({"SDXL"})
    assert detect({f"{SINGLE}.linear1.lora_B.weight": (21504, 4)}, {}).rules_out({"Flux.2"})
    assert detect({f"{SINGLE}.linear1.lora_B.weight": (27648, 4)}, {}).rules_out({"Flux.1"})
    text = detect({TEXT: (4, 768)}, {})
    assert not text.rules_out({"SDXL"})
    assert text.rules_out({"SD 2.x"})
    assert not detect({}, {"ss_base_model_version": "sdxl_1.0"}).rules_out({"SD 1.x"})
    assert detect({}, {"ss_base_model_version": "loraloom_tiny_2"}).rules_out({"loraloom tiny 1"})
    assert not detect({}, {}).rules_out({"SD 1.x"})


def test_metadata_alone_is_told_and_names_and_shapes_decide(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"lora_unet_conv_in.diff": torch.ones(320, 4, 3, 3)}, path, {"ss_base_model_version": "sdxl_base_v1-0"})
    found = read(path, SD1)
    assert found.unknown == ()
    assert any("was made for SDXL" in text and "matched with SD 1.x by names and shapes" in text for text in found.warnings)
    save_file({"lora_unet_conv_in.diff": torch.ones(321, 4, 3, 3)}, path, {"ss_base_model_version": "sdxl_base_v1-0"})
    with pytest.raises(WrongBase, match=r"was made for SDXL .* the base is SD 1\.x, and nothing of it fits"):
        read(path, SD1)


def test_the_width_of_a_lokr_is_the_product_of_its_factors():
    stem = UNET.removesuffix(".lora_down.weight")
    assert detect({f"{stem}.lokr_w1": (8, 8), f"{stem}.lokr_w2": (40, 96)}, {}).title == "SD 1.x"
    assert detect({f"{stem}.lokr_w1_a": (8, 4), f"{stem}.lokr_w1_b": (4, 8), f"{stem}.lokr_w2_b": (4, 256)}, {}).title == "SDXL"
    assert not detect({f"{stem}.lokr_w1": (8, 8)}, {}).confident


def test_two_that_agree_are_certain_and_two_that_do_not_are_not():
    flux = {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (4, 3072)}
    for version, title, confidence in (("flux1", "Flux.1", "certain"), ("chroma", "Chroma", "certain"), ("sd_v1", "Flux.1", "likely")):
        found = detect(flux, {"ss_base_model_version": version})
        assert (found.title, found.confidence, bool(found.contradictions)) == (title, confidence, version == "sd_v1")
    assert detect({}, {"ss_base_model_version": "sdxl_1.0"}).confidence == "likely"
    assert detect({TEXT: (4, 768)}, {"ss_base_model_version": "sdxl_1.0"}).confidence == "certain"
    assert detect({}, {}).confidence == "cannot tell"


def test_a_transformer_whose_cross_attention_is_as_wide_as_sdxls_is_not_sdxl():
    """LTX-Video's."""
    assert detect({"transformer.transformer_blocks.0.attn2.to_k.lora_A.weight": (4, 2048)}, {}).title == "an unknown base"


@pytest.mark.parametrize(
    ("metadata", "title"),
    [
        ({"ss_base_model_version": "sd_v1"}, "SD 1.x"),
        ({"ss_base_model_version": "sd_1.5"}, "SD 1.x"),
        ({"ss_base_model_version": "sd_v2_v"}, "SD 2.x"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        ({"ss_base_model_version": "flux1"}, "Flux.1"),
        ({"ss_base_model_version": "5-large"}, "SD 3.5"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "SD 1.x"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "SDXL"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "SD 2.x"),
        ({"modelspec.architecture": "Flux.1-dev/lora"}, "Flux.1"),
        ({"modelspec.architecture": "stable-diffusion-3-5-large/lora"}, "SD 3.5"),
        ({"modelspec.architecture": "stable-diffusion-3-medium/lora"}, "SD 3"),
        ({"modelspec.architecture": "z-image-turbo"}, "Z-Image"),
        ({"ss_base_model_version": "qwen_image_edit"}, "Qwen-Image"),
        ({"ss_base_model_version": "flux_2_klein_4b"}, "Flux.2"),
        ({"ss_base_model_version": "flux_kontext"}, "Flux.1"),
        ({"ss_base_model_version": "wan"}, "Wan"),
        ({"ss_base_model_version": "hunyuan_video"}, "Hunyuan Video"),
        ({"ss_base_model_version": "lumina2"}, "Lumina 2"),
        ({"modelspec.architecture": "anima-preview/lora"}, "Anima"),
        ({"ss_base_model_version": "something new", "modelspec.architecture": "flux-1-schnell"}, "Flux.1"),
        ({"ss_base_model_version": "loraloom_tiny_1"}, "loraloom tiny 1"),
        ({"ss_base_model_version": "loraloom_tiny_10"}, "loraloom tiny 10"),
        ({"modelspec.architecture": "loraloom-tiny-2/lora"}, "loraloom tiny 2"),
        ({"ss_v2": "True"}, "SD 2.x"),
        ({"ss_v2": "False", "ss_output_name": "sdxl_flux1"}, "an unknown base"),
        ({"ss_base_model_version": ""}, "an unknown base"),
    ],
    ids=str,
)
def test_metadata_tells_by_prefix(metadata, title):
    assert detect({}, metadata).title == title


def test_tensors_win_over_metadata_and_the_contradiction_is_reported():
    found = detect({UNET: (4, 2048)}, {"ss_base_model_version": "sd_v1"})
    assert (found.title, found.family) == ("SDXL", "sdxl")
    assert found.contradictions == ("metadata says SD 1.x (ss_base_model_version = sd_v1), tensors say SDXL (cross-attention 2048 wide)",)


def test_another_version_of_an_embedded_base_is_not_the_one_with_its_shapes():
    for width in (192, 256):
        assert detect({UNET: (4, width)}, {"ss_base_model_version": "loraloom_tiny_2"}).title == "loraloom tiny 2"


# What reading makes of it.


def lora(folder, width=768, out=320, **metadata):
    prefix = UNET.removesuffix(".lora_down.weight")
    save_file({UNET: torch.ones(2, width), f"{prefix}.lora_up.weight": torch.ones(out, 2)}, folder / "ink.safetensors", metadata or None)
    return folder / "ink.safetensors"


@pytest.mark.parametrize(
    ("made", "base", "sentence"),
    [
        ({"width": 2048}, SD1, "ink.safetensors was made for SDXL (cross-attention 2048 wide); the base is SD 1.x (768)"),
        ({"width": 768}, SDXL, "was made for SD 1.x (cross-attention 768 wide); the base is SDXL (2048)"),
        ({"width": 1024}, TINY, "was made for SD 2.x (cross-attention 1024 wide); the base is loraloom tiny 1 (192)"),
        ({"ss_base_model_version": "flux1", "width": 5}, SD1, "was made for Flux.1 (ss_base_model_version = flux1); the base is SD 1.x."),
        ({"width": 640}, SD1, "does not say what base it was made for (cross-attention 640 wide); the base is SD 1.x (768)"),
        (
            {"width": 192, "ss_base_model_version": "loraloom_tiny_2"},
            TINY,
            "was made for loraloom tiny 2 (ss_base_model_version = loraloom_tiny_2); the base is loraloom tiny 1",
        ),
    ],
)
def test_a_file_for_another_base_is_refused_with_both_names(tmp_path, made, base, sentence):
    with pytest.raises(WrongBase) as caught:
        read(lora(tmp_path, **made), base)
    assert sentence in str(caught.value)


def test_a_file_for_a_family_that_we_do_not_know_is_refused_without_a_base_too(tmp_path):
    for made in (
        {"width": 5, "ss_base_model_version": "flux1"},
        {"width": 192, "ss_base_model_version": "loraloom_tiny_2"},
        {"width": 640},
    ):
        with pytest.raises(UnknownFormat, match=r"was made for (Flux\.1|loraloom tiny 2) \(|does not say what base it was made for"):
            read(lora(tmp_path, **made))


def test_force_reads_what_fits_and_says_that_it_was_forced(tmp_path):
    path = lora(tmp_path, ss_base_model_version="sdxl_base_v1-0", width=768)
    found = read(path, SD1)  # its tensors are those of SD 1.x
    assert "metadata says SDXL" in found.warnings[0]
    path = lora(tmp_path, ss_base_model_version="loraloom_tiny_2", width=192, out=48)
    found = read(path, TINY, force=True)
    assert (found.base, len(found.adapters)) == ("tiny", 1)
    assert "was made for loraloom tiny 2" in found.warnings[0]
    assert found.warnings[0].endswith("and this was forced")
    with pytest.raises(ShapeMismatch, match=r"the adapter gives \[320, 2048\], the module has \[320, 768\]"):
        read(lora(tmp_path, width=2048), SD1, force=True)


def test_a_file_that_says_nothing_is_matched_with_a_warning(tmp_path):
    tensors = {"lora_unet_conv_in.lora_down.weight": torch.ones(2, 4, 3, 3), "lora_unet_conv_in.lora_up.weight": torch.ones(16, 2, 1, 1)}
    save_file(tensors, tmp_path / "x.safetensors")
    found = read(tmp_path / "x.safetensors", NANO)
    assert found.warnings == ("x.safetensors does not say what base it was made for; matched with loraloom nano 1 by names and shapes",)
    with pytest.raises(UnknownFormat, match="does not say what base it was made for"):
        read(tmp_path / "x.safetensors")
