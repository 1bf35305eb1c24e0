"""What tells the families apart: what trainers call them, and names and widths that only one of them has. formats.md §4."""

import re
from dataclasses import dataclass

# By prefix of `ss_base_model_version` and `modelspec.architecture`, lower case, `_` as `-`; the longest prefix counts. sd-scripts,
# musubi-tuner, ai-toolkit, OneTrainer. The versions of the bases that have a table stand there.
CALLED = {
    "sd-1.": "SD 1.x",
    "sd-v1": "SD 1.x",
    "stable-diffusion-v1": "SD 1.x",
    "sd-2.": "SD 2.x",
    "sd-v2": "SD 2.x",
    "stable-diffusion-v2": "SD 2.x",
    "sdxl-": "SDXL",
    "stable-diffusion-xl": "SDXL",
    "sd3": "SD 3",
    "sd-3": "SD 3",
    "medium": "SD 3",
    "stable-diffusion-3": "SD 3",
    "sd3.5": "SD 3.5",
    "sd-3.5": "SD 3.5",
    "5-": "SD 3.5",
    "stable-diffusion-3-5": "SD 3.5",
    "stable-diffusion-3.5": "SD 3.5",
    "flux1": "Flux.1",
    "flux.1": "Flux.1",
    "flux-1": "Flux.1",
    "flux-kontext": "Flux.1",
    "flux2": "Flux.2",
    "flux.2": "Flux.2",
    "flux-2": "Flux.2",
    "chroma": "Chroma",
    "lumina2": "Lumina 2",
    "lumina-2": "Lumina 2",
    "zimage": "Z-Image",
    "z-image": "Z-Image",
    "qwen-image": "Qwen-Image",
    "wan": "Wan",
    "hunyuan-video": "Hunyuan Video",
    "hunyuanvideo": "Hunyuan Video",
    "stable-cascade": "Stable Cascade",
    "anima": "Anima",
    "hidream": "HiDream",
    "krea2": "Krea 2",
    "krea-2": "Krea 2",
    "auraflow": "AuraFlow",
    "ernie-image": "ERNIE-Image",
    "framepack": "FramePack",
    "hunyuan-image": "HunyuanImage",
    "hunyuan-video-1-5": "HunyuanVideo 1.5",
    "hunyuan-video-1.5": "HunyuanVideo 1.5",
    "ideogram4": "Ideogram 4",
    "ideogram-4": "Ideogram 4",
    "kandinsky5": "Kandinsky 5",
    "kandinsky-5": "Kandinsky 5",
    "ltx2": "LTX-2",
    "ltx-2": "LTX-2",
    "omnigen2": "OmniGen2",
    "pixart": "PixArt",
}

# How a transformer's own names begin in the dialects that people have. Signatures are looked for in what follows.
BEGINNING = re.compile(
    r"(?:transformer\.|model\.diffusion_model\.|diffusion_model\.|base_model\.model\.|(?:lora|oft)_(?:unet|transformer)_|lycoris_)?_?"
)
UNET_BLOCK = "(down|up|input|output)_blocks|mid(dle)?_block"


@dataclass(frozen=True)
class Signature:
    """Speaks for `title` if each of `patterns` is found in some name, and the layers named by the first have inputs of one of `widths`
    and outputs of one of `outputs`.

    `\\n` stands before each name. One of `marks` is in every name that the first pattern finds: a large file has megabytes of names,
    and looking for plain text takes a hundredth of the time.
    """

    title: str
    evidence: str
    marks: tuple[str, ...]
    patterns: tuple[str, ...]
    widths: tuple[int, ...] = ()  # empty: any
    outputs: tuple[int, ...] = ()  # empty: any
    others: tuple[str, ...] = ()  # families that have all of this as well


_DOUBLE, _SINGLE = ("double_blocks",), ("single_blocks", "single_transformer_blocks")
_HUNYUAN = r"double_blocks[._]\d+[._](img|txt)_(attn_(qkv|q|k|v|proj)|mlp[._]fc1|mod[._]linear)\b"
_FLUX = r"(double|single)_blocks[._]\d|single_transformer_blocks"
_ATTENTIONS = r"\nblocks[._]\d+[._](self|cross)_attn[._]"
_NEXT_DIT = r"\nlayers[._]\d+[._](attention|attn|feed_forward)[._]|(noise|context)_refiner"
_NEXT_DIT_MARKS = ("\nlayers", "_refiner")
_PLAIN_MARKS, _PLAIN = ("\ntransformer_blocks",), r"\ntransformer_blocks[._]\d+[._]"

# Looked for before any other width; the first that is found counts.
TRANSFORMERS = (
    Signature(
        "Flux.2", "modulation shared by all blocks", ("_stream_modulation", "to_qkv_mlp_proj"), ("_stream_modulation|to_qkv_mlp_proj",)
    ),
    Signature(
        "Flux.2",
        "context {width} wide",
        ("\ntxt_in", "\ncontext_embedder"),
        (r"\n(txt_in|context_embedder)[._]", _FLUX),
        (7680, 12288, 15360),
    ),
    Signature("Chroma", "a distilled guidance layer", ("distilled_guidance_layer",), ("distilled_guidance_layer",)),
    Signature("HiDream", "double and single stream blocks", ("_stream_blocks",), (r"(double|single)_stream_blocks[._]",)),
    Signature("HunyuanImage", "double blocks {width} wide", _DOUBLE, (_HUNYUAN,), (3584,)),
    Signature("HunyuanVideo 1.5", "double blocks {width} wide", _DOUBLE, (_HUNYUAN,), (2048,)),
    Signature(
        "Hunyuan Video",
        "names in its double blocks",
        _DOUBLE,
        (r"double_blocks\.\d+\.(img|txt)_attn_qkv|double_blocks[._]\d+[._](img|txt)_(mlp[._]fc|mod[._]linear)",),
    ),
    Signature("Hunyuan Video", "20 double blocks", _DOUBLE, (r"double_blocks[._]19[._]",)),
    Signature(
        "Hunyuan Video",
        "20 double blocks",
        _PLAIN_MARKS,
        (r"\ntransformer_blocks[._]19[._]", "single_transformer_blocks"),
        others=("FramePack",),
    ),
    Signature(
        "Hunyuan Video",
        "a refiner of tokens",
        ("token_refiner",),
        (r"individual_token_refiner|context_embedder[._]token_refiner",),
        others=("FramePack", "HunyuanImage", "HunyuanVideo 1.5"),
    ),
    Signature("AuraFlow", "joint and single transformer blocks", ("joint_transformer_blocks",), ("joint_transformer_blocks",)),
    Signature("AuraFlow", "double and single layers", ("double_layers", "single_layers"), (r"\n(double|single)_layers[._]\d",)),
    Signature(
        "AuraFlow",
        "feed-forward layers in single blocks",
        ("single_transformer_blocks",),
        (r"single_transformer_blocks[._]\d+[._]ff[._]",),
    ),
    Signature("Flux.2", "double blocks {width} wide", _DOUBLE, (r"double_blocks[._]\d+[._](img|txt)_attn[._](qkv|proj)",), (4096, 6144)),
    Signature("Flux.2", "48 single blocks", _SINGLE, (r"single_(transformer_)?blocks[._]4[0-7][._]",)),
    # Flux.1 and the 4B of Flux.2 are both 3072 wide: what is fused, and the feed-forward layers, differ.
    Signature(
        "Flux.2",
        "{output} outputs of its single blocks' first layer",
        _SINGLE,
        (r"single_blocks[._]\d+[._]linear1\b",),
        outputs=(27648, 36864, 55296),
    ),
    Signature(
        "Flux.2",
        "{output} outputs of its feed-forward layers",
        _DOUBLE,
        (r"double_blocks[._]\d+[._](img|txt)_mlp[._]0\b",),
        outputs=(18432, 24576, 36864),
    ),
    Signature("Flux.2", "single blocks' last layer {width} wide", _SINGLE, (r"single_blocks[._]\d+[._]linear2\b",), (12288, 16384, 24576)),
    Signature("Flux.2", "feed-forward layers {width} wide", _DOUBLE, (r"double_blocks[._]\d+[._](img|txt)_mlp[._]2\b",), (9216, 18432)),
    Signature(
        "Flux.2",
        "names of its feed-forward layers",
        _PLAIN_MARKS,
        (r"\ntransformer_blocks[._]\d+[._]ff(_context)?[._]linear_(in|out)\b",),
    ),
    Signature(
        "Flux.1",
        "{output} outputs of its single blocks' first layer",
        _SINGLE,
        (r"single_blocks[._]\d+[._]linear1\b",),
        outputs=(21504,),
        others=("Chroma",),
    ),
    Signature(
        "Flux.1",
        "double and single transformer blocks",
        (*_DOUBLE, *_SINGLE),
        (_FLUX,),
        others=("Chroma", "Flux.2", "Hunyuan Video", "FramePack", "AuraFlow", "Ovis-Image", "LongCat-Image"),
    ),
    Signature("SD 3.5", "joint blocks, a second attention in them", ("joint_blocks",), (r"joint_blocks[._]\d+[._]x_block[._]attn2",)),
    Signature("SD 3.5", "38 joint blocks", ("joint_blocks",), (r"joint_blocks[._](2[4-9]|3[0-7])[._]",)),
    Signature("SD 3", "joint blocks", ("joint_blocks",), ("joint_blocks",), others=("SD 3.5",)),
    Signature("Z-Image", "attention layers {width} wide", _NEXT_DIT_MARKS, (_NEXT_DIT,), (3840,)),
    Signature("Lumina 2", "attention layers {width} wide", _NEXT_DIT_MARKS, (_NEXT_DIT,), (2304,)),
    Signature("Ideogram 4", "attention layers {width} wide", _NEXT_DIT_MARKS, (_NEXT_DIT,), (4608,)),
    Signature("Z-Image", "a noise refiner", ("noise_refiner",), ("noise_refiner",), others=("Lumina 2", "OmniGen2")),
    Signature("ERNIE-Image", "layers with self attention", ("\nlayers",), (r"\nlayers[._]\d+[._]self_attention[._]",)),
    Signature(
        "Krea 2",
        "gates of attentions, or a fusion of texts",
        ("attn.w", "attn_w", "to_gate", "txtfusion", "text_fusion"),
        (r"\n(blocks[._]\d+[._]attn[._]w[qkvo]|transformer_blocks[._]\d+[._]attn[._]to_gate)\b|\n(txtfusion|text_fusion)[._]",),
    ),
    Signature("Qwen-Image", "streams for pictures and text in each block", _PLAIN_MARKS, (rf"{_PLAIN}(img|txt)_(mlp|mod)",)),
    Signature(
        "Qwen-Image", "60 transformer blocks {width} wide", _PLAIN_MARKS, (r"\ntransformer_blocks[._](3[89]|[45]\d)[._]attn[._]",), (3072,)
    ),
    Signature("SD 3", "transformer blocks {width} wide", _PLAIN_MARKS, (rf"{_PLAIN}attn[._]",), (1536,), others=("SD 3.5",)),
    Signature("SD 3.5", "transformer blocks {width} wide", _PLAIN_MARKS, (rf"{_PLAIN}attn[._]",), (2432,)),
    Signature("Anima", "an adapter for a language model", ("llm_adapter",), (r"llm_adapter[._]", r"\nblocks[._]\d")),
    Signature("Anima", "projections for self and cross attention", ("\nblocks",), (rf"{_ATTENTIONS}(q|k|v|output)_proj",)),
    Signature("Wan", "blocks with self and cross attention", ("\nblocks",), (rf"{_ATTENTIONS}[qkvo](_img)?[._]",)),
    Signature(
        "Wan", "blocks with two attentions, {width} wide", ("\nblocks",), (r"\nblocks[._]\d+[._]attn1[._]to_[qkv][._]",), (1536, 3072, 5120)
    ),
    Signature(
        "Stable Cascade",
        "names of its prior",
        ("\nlora_prior_unet_", "attention_attn", "attention.attn"),
        (r"\nlora_prior_unet_|_blocks[._]\d+[._]\d+[._]attention[._]attn",),
    ),
)
# The same for UNets, in whole keys, looked for after the width of the cross-attention, which tells them apart better.
UNETS = (
    Signature(
        "SDXL",
        "three or more transformer blocks in a row",
        ("transformer_blocks",),
        (r"[._]transformer_blocks[._]([2-9]|1\d)[._]", UNET_BLOCK),
    ),
    Signature(
        "SDXL",
        "a UNet and two text encoders",
        ("\nlora_te2_", "\ntext_encoder_2."),
        (r"\nlora_te2_|\ntext_encoder_2\.", r"\nlora_unet_|\nunet\."),
    ),
    Signature(
        "SDXL",
        "original names of its blocks, which only SDXL's trainers write",
        ("\nlora_unet_input_blocks_", "\nlora_unet_output_blocks_", "\nlora_unet_middle_block_"),
        (r"\nlora_unet_(input_blocks|output_blocks|middle_block)_",),
        others=("SD 1.x", "SD 2.x"),
    ),
)
# Some transformers have an `attn2` too (LTX-Video's is as wide as SDXL's), so the block's name counts.
CROSS_ATTENTION = (re.compile(r"attn2[._](processor[._])?to_[kv](_lora)?[._]"), re.compile(UNET_BLOCK))
# The same in cloneofsimo's files, which count the layers: two attentions with GEGLU's projection between them are nine.
COUNTED = re.compile(r"unet:(\d{1,4}):down")
COUNTED_CONTEXT, COUNTED_LAYERS = (6, 7), 9
# Of the first text encoder and the second.
TEXTS = tuple(
    re.compile(rf"^({prefixes}).*self_attn[._](q|k|v)_proj")
    for prefixes in (
        r"lora_te1?_|text_encoder\.|lycoris_(te1?_|text_encoder_text|(text_model_)?encoder_)|(text_encoders\.)?clip_l\."
        r"|base_model\.model\.(text_model\.)?encoder\.",
        r"lora_te2_|text_encoder_2\.|lycoris_te2_|lycoris_text_encoder_2_|(text_encoders\.)?clip_g\.",
    )
)
