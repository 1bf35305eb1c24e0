"""The engine on SDXL's classes: two text encoders, pooled vectors, levels without attention."""

import copy

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from running import OPTIONS, Calls, denoised, generators, mix, run, strength
from support import close, everything, fingerprint, hooks, network
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from loraloom.bases import NANOXL, SDXL
from loraloom.bases.nanoxl.model import load
from loraloom.bases.sdxl.layers import TEXT, TEXT_2, UNET
from loraloom.engine import Engine
from loraloom.engine.live import live_modules, recognise
from loraloom.errors import EngineError, NotSupported
from loraloom.lorafile import LoraFile, Mix
from loraloom.strength import Place

INK, NEON = network(NANOXL, everything, seed=1, bias=True), network(NANOXL, everything, share=0.6, seed=500, rank=2)
PROMPTS = ["a cat", "dogs", "the bus", "one house"]


@pytest.fixture(scope="module")
def pipeline():
    made = load()
    made.set_progress_bar_config(disable=True)
    made.encode_prompt("a cat")  # transformers 5 hooks an encoder at its first call for hidden states, and leaves that there
    return made


@pytest.fixture(autouse=True)
def _nothing_left(pipeline):
    prints, count = fingerprint(pipeline), hooks(pipeline)
    yield
    assert fingerprint(pipeline) == prints
    assert hooks(pipeline) == count
    assert "encode_prompt" not in vars(pipeline)
    assert not {"step", "set_timesteps"} & vars(pipeline.scheduler).keys()


def encoded(pipeline, mixes, negative="dark", prompt="a cat"):
    """(embeddings, pooled vectors) as the denoiser gets them: [negative, prompt]."""
    with Engine(pipeline).attached(mixes), torch.no_grad():
        found, other, pooled, other_pooled = pipeline.encode_prompt(prompt, negative_prompt=negative)
    return torch.cat([other, found]), torch.cat([other_pooled, pooled])


def by_hand(pipeline, **strengths):
    """A copy whose weights were changed one by one: INK, each component with its strength."""
    changed = copy.deepcopy(pipeline)
    modules = live_modules(changed, NANOXL)
    with torch.no_grad():
        for target, adapter in INK.adapters.items():
            layer, own = modules[target], strengths[target.component]
            layer.weight += own * adapter.delta(layer.weight)
            shift = own * adapter.bias_delta(torch.zeros(len(layer.weight)))
            layer.bias = torch.nn.Parameter(shift if layer.bias is None else layer.bias + shift)
    return changed


# Recognising.


def test_the_pipeline_is_known_and_every_target_is_there(pipeline):
    assert recognise(pipeline) is NANOXL
    assert live_modules(pipeline, NANOXL).keys() == NANOXL.by_target.keys()
    with Engine(pipeline).attached(mix((INK, 1.0))) as report:
        assert report.networks[0].applied == report.networks[0].present
        assert report.networks[0].applied.keys() == {"unet", "text_encoder", "text_encoder_2"}


def full_size(numbers, kind):
    config = CLIPTextConfig(
        vocab_size=numbers.vocabulary,
        hidden_size=numbers.width,
        intermediate_size=4 * numbers.width,
        num_hidden_layers=numbers.depth,
        projection_dim=numbers.projection or numbers.width,
    )
    return kind(config)


def test_sdxl_itself_is_known_by_its_shapes_and_every_target_is_there(pipeline):
    """The config of stabilityai/stable-diffusion-xl-base-1.0, without weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        texts = {
            "text_encoder": full_size(TEXT, CLIPTextModel),
            "text_encoder_2": full_size(TEXT_2, CLIPTextModelWithProjection),
        }
    large = StableDiffusionXLPipeline(**{**pipeline.components, "unet": unet, **texts}, add_watermarker=False)
    assert recognise(large) is SDXL
    modules = live_modules(large, SDXL)
    assert {target: tuple(module.weight.shape) for target, module in modules.items()} == {
        layer.target: layer.shape for layer in SDXL.layers
    }
    assert sum(layer.target.component == "unet" for layer in SDXL.layers) == len(UNET.layers())


# Strengths that stay.


@pytest.mark.parametrize("mode", ["merge", "branch"])
@pytest.mark.parametrize(
    ("text", "te1", "te2", "unet"),
    [
        ("0.7", 0.7, 0.7, 0.7),
        ("te1=0.3:te2=-0.6:unet=0", 0.3, -0.6, 0),
        ("te1=0.4:te2=0:unet=0", 0.4, 0, 0),
        ("te1=0:te2=0.4:unet=0", 0, 0.4, 0),
        ("te=0.5:te2=0.1:unet=0.2", 0.5, 0.1, 0.2),
    ],
)
def test_merge_and_branch_are_the_weights_changed_by_hand_and_te1_te2_reach_their_encoder(pipeline, text, te1, te2, unet, mode):
    expected = run(by_hand(pipeline, text_encoder=te1, text_encoder_2=te2, unet=unet), Mix(), steps=2, negative_prompt="dark")
    found = run(pipeline, mix((INK, text)), steps=2, negative_prompt="dark", mode=mode)
    assert not close(expected, run(pipeline, Mix(), steps=2, negative_prompt="dark"), 1e-4)
    assert close(found, expected, 1e-5)


def test_merge_and_branch_give_one_output(pipeline):
    inputs = ((torch.randn(2, 4, 8, 8), 500), {})
    embeddings, pooled = encoded(pipeline, Mix())
    inputs[1].update(encoder_hidden_states=embeddings, added_cond_kwargs={"text_embeds": pooled, "time_ids": torch.rand(2, 6) * 64})
    found = {}
    for mode in ("merge", "branch"):
        with Engine(pipeline).attached(mix((INK, 0.8), (NEON, -0.3)), mode=mode), torch.no_grad():
            found[mode] = [*encoded_inside(pipeline), pipeline.unet(*inputs[0], **inputs[1]).sample]
    assert all(close(branch, merge, 1e-5) for branch, merge in zip(found["branch"], found["merge"], strict=True))
    assert not close(found["merge"][-1], denoised(pipeline, Mix(), inputs), 1e-2)


def encoded_inside(pipeline):
    return pipeline.encode_prompt("a cat", negative_prompt="dark")


@pytest.mark.parametrize(("text", "first", "second"), [("te1=0.5", True, False), ("te2=0.5", False, True)])
def test_each_text_encoder_changes_its_own_part_of_the_embeddings(pipeline, text, first, second):
    """CLIP-L gives the first columns, CLIP-G the others and the pooled vector."""
    (plain, plain_pooled), (found, pooled) = (encoded(pipeline, mixes) for mixes in (Mix(), mix((INK, f"0:{text}"))))
    width = NANOXL.text_widths[0]
    assert torch.equal(found[..., :width], plain[..., :width]) != first
    assert torch.equal(found[..., width:], plain[..., width:]) != second
    assert torch.equal(pooled, plain_pooled) != second


def test_block_weights_of_19_blocks_work(pipeline):
    """12 numbers: BASE (the text encoders), IN04 05 07 08, M00, OUT00 to 05."""
    numbers = [0.5, 1, 0, 0, 0, 0.3, 0, 0, 0, 0, 0, -1]
    blocks = {4: 1.0, 9: 0.3, 15: -1.0}

    def factor(target):
        layer = NANOXL.by_target[target]
        if layer.place.is_text:
            return 0.5
        edge = {"in": 1.0, "out": -1.0}
        return blocks.get(layer.block, 0.0) if layer.block is not None else edge[layer.third]

    scaled = {
        target: adapter.with_tensors({"up": adapter.up * factor(target), "bias": adapter.bias * factor(target)})
        for target, adapter in INK.adapters.items()
    }
    expected = run(pipeline, mix((LoraFile(scaled, {}, "nanoxl"), 1.0)), steps=2)
    found = run(pipeline, mix((INK, f"1:lbw={','.join(map(str, numbers))}")), steps=2)
    assert close(found, expected, 1e-5)
    with pytest.raises(NotSupported, match="this lbw is for a base of 25 blocks, loraloom nanoxl 1 has 19"):
        run(pipeline, mix((INK, "1:lbw=" + ",".join("1" * 17))), steps=2)


# Strengths that move.


@pytest.mark.parametrize("negative", ["dark", None], ids=["negative prompt", "zeros for the negative half"])
def test_a_te2_schedule_gives_each_step_the_embeddings_and_pooled_vectors_of_its_strength(pipeline, negative):
    seen = []
    run(pipeline, mix((INK, "te1=0.4:te2=0.1@1,0.6@3:unet=0.2")), steps=4, calls=seen, negative_prompt=negative)
    early, late = (encoded(pipeline, mix((INK, f"te1=0.4:te2={value}")), negative) for value in (0.1, 0.6))
    assert all(not close(one, other, 1e-2) for one, other in zip(early, late, strict=True))
    assert len(seen[0].inputs) == 4
    for number, (_, options) in enumerate(seen[0].inputs, start=1):
        embeddings, pooled = early if number < 3 else late
        assert close(options["encoder_hidden_states"], embeddings, 1e-6), number
        assert close(options["added_cond_kwargs"]["text_embeds"], pooled, 1e-6), number


PLACES = {"te1": Place("text_encoder"), "te2": Place("text_encoder_2")} | {third: Place("unet", third) for third in ("in", "mid", "out")}


@pytest.mark.parametrize("text", ["te1=0~1", "te2=0~1", "te=0.1@0,0.9@50%:unet=1~0", "te1=1~0:te2=0.2@1,0.7@2:mid=0.3@3s,2@4s"])
def test_every_step_is_that_of_constant_strengths(pipeline, text):
    steps, wanted, seen = 4, strength(text), []
    run(pipeline, mix((INK, text)), steps=steps, calls=seen, negative_prompt="dark")
    for number, (inputs, output) in enumerate(zip(seen[0].inputs, seen[0].outputs, strict=True), start=1):
        held = ":".join(f"{key}={wanted.at(place, number, steps)}" for key, place in PLACES.items())
        embeddings, pooled = encoded(pipeline, mix((INK, held)))
        assert close(inputs[1]["encoder_hidden_states"], embeddings, 1e-6)
        assert close(inputs[1]["added_cond_kwargs"]["text_embeds"], pooled, 1e-6)
        assert close(output, denoised(pipeline, mix((INK, held)), inputs), 1e-5)


def test_img2img_follows_too(pipeline):
    painter = StableDiffusionXLImg2ImgPipeline(**pipeline.components, add_watermarker=False)
    painter.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with Engine(painter).attached(mix((INK, "te2=0.1@1,0.6@3")), steps=8):
        seen = Calls(painter)
        painter("a cat", image=image, strength=0.5, num_inference_steps=8, generator=generators(3)[0], negative_prompt="dark", **OPTIONS)
        seen.stop()
    assert len(seen.inputs) == 4
    for number, (_, options) in enumerate(seen.inputs, start=1):
        _, pooled = encoded(pipeline, mix((INK, f"te2={0.1 if number < 3 else 0.6}")))
        assert close(options["added_cond_kwargs"]["text_embeds"], pooled, 1e-6)


def test_embeddings_given_instead_of_prompts_are_refused_where_te_moves(pipeline):
    with torch.no_grad():
        given = pipeline.encode_prompt("a cat", negative_prompt="dark")
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    with pytest.raises(EngineError, match="give prompts, not embeddings"):
        run(pipeline, mix((INK, "te2=0~1")), steps=2, prompt=None, **dict(zip(names, given, strict=True)))


# Pictures and halves.

FOUR = [
    mix((INK, 0.5)),
    mix((NEON, "te1=1:te2=0.2:unet=-0.5")),
    mix((INK, 0.3), (NEON, -0.4)),
    mix((INK, "te2=0~1:unet=1~0"), negative=((NEON, 0.5),)),
]


@pytest.mark.parametrize("guidance", [2.5, 1.0])
@pytest.mark.parametrize("negative", [["x", "", "blue", "dark"], None], ids=["negative prompts", "none"])
def test_four_pictures_with_four_mixes_equal_their_single_runs(pipeline, guidance, negative):
    together = run(
        pipeline, FOUR, steps=3, prompt=PROMPTS, negative_prompt=negative, generator=generators(0, 1, 2, 3), guidance_scale=guidance
    )
    for index, own in enumerate(FOUR):
        options = {
            "prompt": [PROMPTS[index]],
            "negative_prompt": negative and [negative[index]],
            "generator": generators(index),
            "guidance_scale": guidance,
        }
        assert close(together[index], run(pipeline, own, steps=3, **options)[0], 2e-5), index
        assert not close(together[index], run(pipeline, Mix(), steps=3, **options)[0], 1e-2)


def test_two_prompts_of_a_picture_follow_their_encoder_in_a_batch(pipeline):
    """prompt_2 goes to the second text encoder; two mixes for two pictures of one prompt each."""
    several = [mix((INK, 0.2 * number)) for number in (1, 2, 3, 4)]
    texts = {"prompt": PROMPTS[:2], "prompt_2": PROMPTS[2:], "negative_prompt": ["x", "y"], "negative_prompt_2": ["z", ""]}
    together = run(pipeline, several, steps=2, num_images_per_prompt=2, generator=generators(0, 1, 2, 3), **texts)
    for index, own in enumerate(several):
        single = {name: [each[index // 2]] for name, each in texts.items()}
        assert close(together[index], run(pipeline, own, steps=2, generator=generators(index), **single)[0], 2e-5)


def test_a_negative_tag_runs_on_the_negative_half_only(pipeline):
    """Each call of the denoiser against two with the halves' own networks, on the halves' own embeddings."""
    both, own, with_negative = mix((INK, 0.5), negative=((NEON, 0.8), (INK, 0.2))), mix((INK, 0.5)), mix((INK, 0.7), (NEON, 0.8))
    seen = []
    run(pipeline, both, steps=3, calls=seen, negative_prompt="dark")
    (_, pooled), (_, negative_pooled) = encoded(pipeline, own), encoded(pipeline, with_negative)
    for (arguments, options), output in zip(seen[0].inputs, seen[0].outputs, strict=True):
        given = options["added_cond_kwargs"]["text_embeds"]
        assert close(given[1], pooled[1], 1e-6)
        assert close(given[0], negative_pooled[0], 1e-6)
        assert close(output[1], denoised(pipeline, own, (arguments, options))[1], 1e-5)
        assert close(output[0], denoised(pipeline, with_negative, (arguments, options))[0], 1e-5)
        assert not close(output[0], denoised(pipeline, own, (arguments, options))[0], 1e-2)


def test_a_fault_in_a_run_leaves_every_bit(pipeline):
    """What _nothing_left checks, after an exception at the second step."""

    def stop(_, index, *__):
        if index == 1:
            raise ZeroDivisionError
        return {}

    for mode, text in (("auto", "te=0~1:unet=1~0"), ("merge", "0.5"), ("branch", "0.5")):
        with pytest.raises(ZeroDivisionError):
            run(pipeline, mix((INK, text)), steps=3, mode=mode, callback_on_step_end=stop)
