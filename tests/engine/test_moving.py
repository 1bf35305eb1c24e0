"""Laws of what moves: strengths by step, by picture and by half of guidance, each against runs in which nothing moves."""

import copy

import diffusers
import pytest
import torch
from running import OPTIONS, Calls, denoised, generators, mix, run, strength
from support import close, everything, fingerprint, hooks, network

from loraloom.bases import NANO
from loraloom.engine import Engine
from loraloom.errors import EngineError, NotSupported
from loraloom.lorafile import Mix
from loraloom.schedule import Point, Position, Schedule
from loraloom.strength import Strength

INK, NEON = network(NANO, everything, seed=1, bias=True), network(NANO, everything, share=0.6, seed=100, rank=2)
PLAIN = network(NANO, seed=200)


@pytest.fixture(scope="module", autouse=True)
def _quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)


@pytest.fixture(autouse=True)
def _nothing_left(pipeline):
    prints, sampler = fingerprint(pipeline), pipeline.scheduler
    yield
    pipeline.scheduler = sampler
    assert fingerprint(pipeline) == prints
    assert hooks(pipeline) == 0
    assert "encode_prompt" not in vars(pipeline)
    assert not {"step", "set_timesteps"} & vars(sampler).keys()


def embeddings(pipeline, mixes, prompt="a cat", negative=""):
    """[negative, prompt] as the denoiser gets them."""
    with Engine(pipeline).attached(mixes):
        found, other = pipeline.encode_prompt(prompt, "cpu", 1, True, negative)
    return torch.cat([other, found])


def test_a_text_encoder_schedule_gives_each_step_the_embeddings_of_its_strength(pipeline):
    """The example of product.md: te=0.1@1,0.6@6."""
    seen = []
    run(pipeline, mix((INK, "te=0.1@1,0.6@6")), steps=8, calls=seen)
    given = [options["encoder_hidden_states"] for _, options in seen[0].inputs]
    early, late = (embeddings(pipeline, mix((INK, f"te={value}"))) for value in (0.1, 0.6))
    assert not close(early, late, 1e-2)
    assert len(given) == 8
    for number, found in enumerate(given, start=1):
        assert close(found, early if number < 6 else late, 1e-6)


SCHEDULES = {
    "hold": "unet=0.1@1,0.6@6",
    "ramp over the run": "unet=0~1",
    "ramp between steps": "unet=-0.5@2~0.5@6",
    "fractions": "unet=0.9@0,0.2@0.5",
    "percent": "unet=0.9@0%,0.2@50%",
    "one third": "unet=0.4:out=0@1,1@4",
    "start and stop": "0.8:start=3:stop=5",
    "everything at once": "te=0~1:unet=1~0:mid=0.3@3s,2@5s",
}


SAMPLERS = ("DDIMScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler")
# Every schedule with a plain sampler, and everything at once with every sampler; the other pairs are for the long run.
USUAL = [(sampler, name) for sampler in SAMPLERS for name in SCHEDULES if sampler == SAMPLERS[0] or name == "everything at once"]
PAIRS = [(sampler, name) for sampler in SAMPLERS for name in SCHEDULES]


@pytest.mark.parametrize(("sampler", "name"), [pair if pair in USUAL else pytest.param(*pair, marks=pytest.mark.long) for pair in PAIRS])
def test_every_step_runs_its_own_strength(pipeline, sampler, name):
    """Each call of the denoiser equals the call with that step's strengths held constant; a second-order sampler's evaluations
    belong to one step."""
    text = SCHEDULES[name]
    steps, wanted = 8, strength(text)
    options = {"skip_prk_steps": True} if sampler == "PNDMScheduler" else {}
    pipeline.scheduler = getattr(diffusers, sampler).from_config(pipeline.scheduler.config, **options)
    seen = []
    run(pipeline, mix((INK, text), (PLAIN, 0.3)), steps=steps, calls=seen)
    order = pipeline.scheduler.order
    extra = sampler == "PNDMScheduler"  # evaluates the first step twice
    assert len(seen[0].outputs) == steps * order - order + 1 + extra
    for index, (inputs, output) in enumerate(zip(seen[0].inputs, seen[0].outputs, strict=True)):
        number = max(1, index // order + 1 - (extra and index > 0))
        assert close(output, denoised(pipeline, [held(wanted, number, steps)], inputs), 1e-5), f"call {index}, step {number}"


def held(wanted: Strength, step: int, steps: int) -> Mix:
    """The strengths of one step as numbers that do not change."""

    def number(schedule):
        return None if schedule is None else Schedule.of(schedule.at(step, steps))

    started = wanted.start is None or wanted.start.reached(step, steps)
    on = started and (wanted.stop is None or wanted.stop.along(step, steps) <= wanted.stop.value)
    fields = {name: number(getattr(wanted, name)) for name in ("te", "unet", "in_", "mid", "out")}
    now = Strength(number(wanted.default), **fields) if on else Strength.of(0)
    return Mix(((INK, now), (PLAIN, Strength.of(0.3))))


def test_in_img2img_the_steps_that_are_run_count(pipeline):
    painter = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    painter.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with Engine(painter).attached(mix((INK, "unet=0.1@1,0.6@3")), steps=8):
        seen = Calls(painter)
        painter("a cat", image=image, strength=0.5, num_inference_steps=8, generator=generators(3)[0], **OPTIONS)
        seen.stop()
    assert len(seen.outputs) == 4
    for index, (inputs, output) in enumerate(zip(seen.inputs, seen.outputs, strict=True)):
        assert close(output, denoised(pipeline, mix((INK, f"unet={0.1 if index < 2 else 0.6}")), inputs))


def test_each_pass_counts_anew_also_after_one_that_was_stopped(pipeline):
    moving = mix((INK, "unet=0~1"))
    once = run(pipeline, moving, steps=5)

    def stop(_, index, *__):
        if index == 2:
            raise ZeroDivisionError
        return {}

    options = {"num_inference_steps": 5, **OPTIONS}
    with Engine(pipeline).attached(moving, steps=5):
        with pytest.raises(ZeroDivisionError):
            pipeline("a cat", generator=generators(3), callback_on_step_end=stop, **options)
        for _ in range(2):
            assert torch.equal(pipeline("a cat", generator=generators(3), **options).images, once)


def test_a_loop_of_ones_own_tells_the_step(pipeline):
    inputs = ((torch.randn(2, 4, 8, 8), 500, torch.randn(2, 32, 24)), {})
    engine = Engine(pipeline)
    with engine.attached(mix((INK, "unet=0~1")), steps=5), torch.no_grad():
        found = []
        for number in range(1, 6):
            engine.step(number)
            found.append(pipeline.unet(*inputs[0]).sample)
    for number, output in enumerate(found):
        assert close(output, denoised(pipeline, mix((INK, f"unet={number / 4}")), inputs))


# Pictures.

FOUR = [mix((INK, 0.5)), mix((NEON, 1.0)), mix((INK, 0.3), (NEON, -0.4)), mix((INK, "te=0~1:unet=1~0"), negative=((NEON, 0.5),))]
PROMPTS = ["a cat", "dogs", "the bus", "one house"]


@pytest.mark.parametrize("guidance", [2.5, 1.0])
def test_four_pictures_with_four_mixes_equal_their_single_runs(pipeline, guidance):
    options = {"guidance_scale": guidance, "negative_prompt": ["x", "", "blue", "dark"]}
    together = run(pipeline, FOUR, steps=4, prompt=PROMPTS, generator=generators(0, 1, 2, 3), **options)
    for index, own in enumerate(FOUR):
        options["negative_prompt"] = [["x", "", "blue", "dark"][index]]
        alone = run(pipeline, own, steps=4, prompt=[PROMPTS[index]], generator=generators(index), **options)
        assert close(together[index], alone[0], 2e-5), index
        assert not close(
            together[index], run(pipeline, Mix(), steps=4, prompt=[PROMPTS[index]], generator=generators(index), **options)[0], 1e-2
        )


@pytest.mark.parametrize("mixes", [2, 6])
def test_several_pictures_of_a_prompt_have_the_mix_of_their_place(pipeline, mixes):
    """Two prompts, three pictures each: a mix for each prompt, or one for each picture."""
    six = [mix((INK, 0.1 * number), (NEON, -0.1 * number)) for number in range(1, mixes + 1)]
    together = run(pipeline, six, steps=3, prompt=PROMPTS[:2], num_images_per_prompt=3, generator=generators(*range(6)))
    for index in range(6):
        own = six[index * mixes // 6]
        alone = run(pipeline, own, steps=3, prompt=PROMPTS[index // 3], generator=generators(index))
        assert close(together[index], alone[0], 2e-5)


def test_a_negative_tag_runs_on_the_negative_half_only(pipeline):
    """Against guidance written by hand: the prompt with the positive networks, the negative prompt with both."""
    both, own = mix((INK, 0.5), negative=((NEON, 0.8), (INK, 0.2))), mix((INK, 0.5))
    found = run(pipeline, both, steps=4, negative_prompt="dark")
    with_negative = mix((INK, 0.7), (NEON, 0.8))
    prompt, negative = (embeddings(pipeline, used, negative="dark") for used in (own, with_negative))
    sampler = copy.deepcopy(pipeline.scheduler)
    sampler.set_timesteps(4)
    latents = torch.randn(1, 4, 8, 8, generator=generators(3)[0]) * sampler.init_noise_sigma
    for timestep in sampler.timesteps:
        scaled = sampler.scale_model_input(latents, timestep)
        conditional = denoised(pipeline, own, ((scaled, timestep, prompt[1:]), {}))
        unconditional = denoised(pipeline, with_negative, ((scaled, timestep, negative[:1]), {}))
        latents = sampler.step(unconditional + 2.5 * (conditional - unconditional), timestep, latents).prev_sample
    assert close(found, latents, 2e-5)
    assert not close(found, run(pipeline, own, steps=4, negative_prompt="dark"), 1e-2)


def test_a_network_that_is_off_for_some_pictures_does_not_touch_them(pipeline):
    together = run(pipeline, [mix((INK, 1)), Mix(), mix((INK, 0))], steps=3, prompt=PROMPTS[:3], generator=generators(0, 1, 2))
    plain = run(pipeline, Mix(), steps=3, prompt=PROMPTS[:3], generator=generators(0, 1, 2))
    assert torch.equal(together[1:], plain[1:])
    assert not close(together[0], plain[0], 1e-2)


# What cannot be told is refused.


def test_rows_that_cannot_be_told_apart_are_an_error(pipeline):
    class Own(diffusers.StableDiffusionPipeline):
        pass

    strange = Own(**pipeline.components, requires_safety_checker=False)
    strange.set_progress_bar_config(disable=True)
    with pytest.raises(NotSupported, match="Own: which row of its batches"):
        run(strange, FOUR[:2], steps=2, prompt=PROMPTS[:2], generator=generators(0, 1))
    with pytest.raises(NotSupported, match="Own: how it hands embeddings on"):
        run(strange, mix((INK, "te=0~1")), steps=2)
    one = mix((INK, "te=0.5:unet=0~1"))  # rows do not matter
    assert torch.equal(run(strange, one, steps=3), run(pipeline, one, steps=3))
    with pytest.raises(EngineError, match="3 mixes are attached, the pipeline draws 2 pictures"):
        run(pipeline, FOUR[:3], steps=2, prompt=PROMPTS[:2], generator=generators(0, 1))


def test_embeddings_that_are_not_the_pipelines_own_are_an_error(pipeline):
    own = torch.randn(1, 32, 24)
    options = {"prompt": None, "prompt_embeds": own, "negative_prompt_embeds": own}
    with pytest.raises(EngineError, match="give prompts, not embeddings"):
        run(pipeline, mix((INK, "te=0~1")), steps=2, **options)
    run(pipeline, mix((INK, "unet=0~1")), steps=2, **options)  # the denoiser's own strengths need no prompt

    def weighted(_, arguments, options):
        return arguments, {**options, "encoder_hidden_states": options["encoder_hidden_states"] * 1.1}

    handle = pipeline.unet.register_forward_pre_hook(weighted, with_kwargs=True)
    try:
        with pytest.raises(EngineError, match="changed the prompt's embeddings on their way"):
            run(pipeline, mix((INK, "te=0~1")), steps=2)
    finally:
        handle.remove()


def test_a_layer_that_is_called_on_its_own_does_not_guess_its_rows(pipeline):
    layer = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q
    with Engine(pipeline).attached(FOUR[:2]), pytest.raises(EngineError, match="was called on its own"):
        layer(torch.randn(2, 5, 32))


def test_points_are_positions_of_the_run_and_not_of_what_was_promised(pipeline):
    """`steps` says what a run should have; a run of another length follows its own."""
    moving = mix((INK, Strength(unet=Schedule((Point(0, Position(0, "fraction"), ramp=True), Point(1, Position(1, "fraction")))))))
    with Engine(pipeline).attached(moving, steps=20):
        calls = Calls(pipeline)
        pipeline("a cat", num_inference_steps=5, generator=generators(3), **OPTIONS)
        calls.stop()
    for index, (inputs, output) in enumerate(zip(calls.inputs, calls.outputs, strict=True)):
        assert close(output, denoised(pipeline, mix((INK, f"unet={index / 4}")), inputs))
