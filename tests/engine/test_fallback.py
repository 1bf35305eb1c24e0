"""Laws of the fallback: what diffusers does, bit for bit, within 1e-5 of the native engine, nothing in silence, nothing left."""

import json

import diffusers
import pytest
import torch
from sd3 import load_sd3, lora_tensors, write_lora
from support import close, fingerprint, hooks

from loraloom import dialects
from loraloom.bases import NANO, SD1
from loraloom.engine import Engine, Fallback
from loraloom.errors import (
    BadTensor,
    EngineError,
    LoraError,
    NothingApplied,
    NotSafetensors,
    NotSupported,
    ShapeMismatch,
    UnknownFormat,
    WrongBase,
)
from loraloom.lorafile import LoraFile, Mix
from loraloom.prompts import parse
from loraloom.strength import Place


@pytest.fixture(scope="module")
def sd3():
    pipeline = load_sd3()
    latents(pipeline)  # transformers hooks a text encoder at its first call
    return pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fallback")


@pytest.fixture(scope="module")
def ink(sd3, folder):
    return write_lora(folder / "ink.safetensors", lora_tensors(sd3))


@pytest.fixture(scope="module")
def neon(sd3, folder):
    return write_lora(folder / "neon.safetensors", lora_tensors(sd3, seed=2, text=False))


@pytest.fixture(autouse=True)
def _nothing_left(sd3, pipeline):
    before = [state(each) for each in (sd3, pipeline)]
    yield
    assert [state(each) for each in (sd3, pipeline)] == before


def state(pipeline):
    """Every bit, and everything of a module that loaders change: class, flags, attributes, hooks."""
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    modules = {
        f"{name}.{path}": (type(module), module.training, sorted(vars(module)))
        for name, part in parts.items()
        for path, module in part.named_modules()
    }
    gradients = [parameter.requires_grad for part in parts.values() for parameter in part.parameters()]
    return fingerprint(pipeline), modules, gradients, hooks(pipeline), {"step", "set_timesteps"} & vars(pipeline.scheduler).keys()


def strength(text):
    return parse(f"<lora:x:{text}>").loras[0].strength(1.0)


def mix(runner, *stack):
    return Mix(tuple((runner.read(path) if not isinstance(path, LoraFile) else path, strength(text)) for path, text in stack))


def latents(pipeline, steps=3, **options):
    generator = torch.Generator().manual_seed(0)
    return pipeline("a cat", num_inference_steps=steps, output_type="latent", generator=generator, **options).images


def native(path):
    return dialects.read(path, NANO)


# An unknown pipeline


def test_an_unknown_pipeline_draws_what_diffusers_draws(sd3, ink, neon):
    with pytest.raises(NotSupported, match="not a base that the native engine knows"):
        Engine(sd3)
    base, fallback = latents(sd3), Fallback(sd3, "this pipeline is not known")
    with fallback.attached(mix(fallback, (ink, "te=0.25:unet=0.5"), (neon, "0.75"))) as report:
        found = latents(sd3)
    plain = load_sd3()  # diffusers leaves its marks on it
    plain.load_lora_weights(str(ink), adapter_name="a")
    plain.load_lora_weights(str(neon), adapter_name="b")
    plain.set_adapters(["a", "b"], [{"transformer": 0.5, "text_encoder": 0.25}, {"transformer": 0.75}])
    expected = latents(plain)
    assert torch.equal(found, expected)
    assert not close(found, base, 0.1)
    assert torch.equal(latents(sd3), base)
    assert (report.mode, report.reason) == ("diffusers", "this pipeline is not known")
    assert [network.applied for network in report.networks] == [{"transformer": 9, "text_encoder": 2}, {"transformer": 9}]
    assert report.modules == 11


def test_strength_0_is_the_base_and_loads_nothing(sd3, ink):
    base, fallback = latents(sd3), Fallback(sd3)
    with fallback.attached(mix(fallback, (ink, "0"))) as report:
        assert not any(hasattr(module, "base_layer") for module in sd3.transformer.modules())
        assert torch.equal(latents(sd3), base)
    assert report.networks[0].off
    with fallback.attached(mix(fallback, (ink, "te=0:unet=1"))) as report:
        pass
    assert report.networks[0].silent == {"text_encoder": 2}


@pytest.mark.parametrize("text", ["te=0:unet=0@1,1@3", "te=0:unet=0~1", "1:te=0:start=2:stop=3"])
def test_each_step_of_a_schedule_equals_its_constant_strength(sd3, ink, text):
    fallback, calls = Fallback(sd3), []
    handle = sd3.transformer.register_forward_hook(lambda *call: calls.append((call[2], call[3][0])), with_kwargs=True)
    try:
        with fallback.attached(mix(fallback, (ink, text)), steps=4):
            latents(sd3, steps=4)
        recorded = list(calls)
    finally:
        handle.remove()
    place = Place("transformer", "mid")
    assert len(recorded) == 4
    for step, (options, found) in enumerate(recorded, start=1):
        value = strength(text).at(place, step, 4)
        with fallback.attached(mix(fallback, (ink, f"te=0:unet={value}"))), torch.no_grad():
            assert torch.equal(sd3.transformer(**options)[0], found)


def test_steps_told_by_hand(sd3, ink):
    fallback, inputs = Fallback(sd3), denoiser_inputs()
    found = []
    with fallback.attached(mix(fallback, (ink, "te=0:unet=0.5@1,1@2")), steps=2), torch.no_grad():
        for step in (1, 2):
            fallback.step(step)
            found.append(sd3.transformer(**inputs).sample)
    for value, sample in zip(("0.5", "1"), found, strict=True):
        with fallback.attached(mix(fallback, (ink, f"te=0:unet={value}"))), torch.no_grad():
            assert torch.equal(sd3.transformer(**inputs).sample, sample)
    with pytest.raises(EngineError, match="nothing is attached"):
        fallback.step(1)


def denoiser_inputs():
    generator = torch.Generator().manual_seed(3)
    return {
        "hidden_states": torch.randn(1, 4, 8, 8, generator=generator),
        "encoder_hidden_states": torch.randn(1, 5, 32, generator=generator),
        "pooled_projections": torch.randn(1, 32, generator=generator),
        "timestep": torch.tensor([500.0]),
    }


# Beside the native engine


@pytest.mark.parametrize("texts", [["1"], ["0.8", "-0.5", "0.3"], ["te=0.2:unet=0.9"], ["te=1:unet=0"], ["te=0:unet=0~1"]])
@pytest.mark.parametrize("dialect", ["kohya", "peft"])
def test_the_fallback_agrees_with_the_native_engine(pipeline, make_lora, tmp_path, texts, dialect):
    pipeline.set_progress_bar_config(disable=True)
    paths = []
    for index, _ in enumerate(texts):
        path = make_lora(tmp_path / f"{index}.safetensors", seed=index, rank=2 + index)
        paths.append(dialects.write(native(path), tmp_path / f"{dialect}-{index}.safetensors", dialect))
    fallback, engine = Fallback(pipeline), Engine(pipeline)
    with engine.attached(Mix(tuple((native(path), strength(text)) for path, text in zip(paths, texts, strict=True))), steps=4):
        expected = latents(pipeline, steps=4, guidance_scale=2.5)
    with fallback.attached(mix(fallback, *zip(paths, texts, strict=True)), steps=4) as report:
        found = latents(pipeline, steps=4, guidance_scale=2.5)
    assert close(found, expected)  # product.md §6: 1e-5 in float32
    assert all(not network.unused and network.applied for network in report.networks)


def test_a_file_that_was_parsed_for_the_base_runs_too(pipeline, make_lora, tmp_path):
    path = make_lora(tmp_path / "x.safetensors")
    with Fallback(pipeline).attached(Mix(((native(path), strength("1")),))) as report:
        assert report.networks[0].applied == {"unet": 48, "text_encoder": 12}
    other = make_lora(tmp_path / "y.safetensors", seed=5)
    with Fallback(pipeline).attached(Mix(((native(path), strength("1")), (native(other), strength("0.5"))))) as report:
        assert [network.applied for network in report.networks] == [{"unet": 48, "text_encoder": 12}] * 2


# Refused by name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1:in=0", "ink: .* one strength for the whole denoiser; use unet= instead"),
        ("1:mid=0", "use unet= instead"),
        ("1:out=0", "use unet= instead"),
        ("1:lbw=ALL", "use unet= instead"),
        ("1:dyn=2", "ink: .* runs all ranks of a file; leave dyn= out"),
        ("te=0~1", "ink: .* strength of text_encoder cannot change by step; give te= one number"),
        ("1:start=2", "give te= one number .*te=0"),
    ],
)
def test_what_only_the_native_engine_runs_is_refused_by_name(sd3, ink, text, message):
    fallback = Fallback(sd3, "asked for")
    with pytest.raises(NotSupported, match=message), fallback.attached(mix(fallback, (ink, text))):
        pass


def test_mixes_by_picture_and_negative_tags_are_refused(sd3, ink, neon):
    fallback = Fallback(sd3)
    one, other = mix(fallback, (ink, "1")), mix(fallback, (neon, "1"))
    with fallback.attached([one, one]):
        pass
    for mixes, message in (
        ([one, other], "one mix for all pictures of a batch; draw them one by one"),
        (Mix(one.positive, other.positive), "leave LoRA tags out of the negative prompt"),
    ):
        with pytest.raises(NotSupported, match=message), fallback.attached(mixes):
            pass
    with pytest.raises(NotSupported, match='beside the layers; use mode="auto"'), fallback.attached(one, mode="merge"):
        pass
    with (
        pytest.raises(NotSupported, match=r"write this network with loraloom\.write"),
        fallback.attached(Mix(((LoraFile({}), strength("1")),))),
    ):
        pass


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("dora_scale", "DoRA"),
        ("lora_magnitude_vector", "DoRA"),
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
        ("oft_blocks", "OFT or BOFT"),
        ("on_input", "IA3"),
        ("a1.weight", "GLoRA"),
        ("lora_mid.weight", "LoCon with a Tucker core"),
        ("diff", "full weights"),
        ("w_norm", "norms"),
    ],
)
def test_other_types_are_refused_by_name(sd3, folder, suffix, kind):
    key = f"transformer.transformer_blocks.0.attn.to_q.{suffix}"
    path = write_lora(folder / f"{suffix}.safetensors", lora_tensors(sd3) | {key: torch.ones(4, 4)})
    with pytest.raises(NotSupported, match=rf"{suffix} is {kind}; through diffusers only plain LoRA runs"):
        Fallback(sd3).read(path)


@pytest.mark.parametrize(
    "option",
    [{"init_lora_weights": "pissa"}, {"use_dora": True}, {"modules_to_save": ["norm"]}, {"rank_pattern": {"(a+)+": 4}}, {"bias": "all"}],
)
def test_options_that_change_the_base_or_the_method_are_refused(sd3, folder, option):
    config = {f"transformer.{name}": value for name, value in {"r": 4, "lora_alpha": 4, "target_modules": ["to_q"], **option}.items()}
    path = write_lora(folder / "option.safetensors", lora_tensors(sd3), {"lora_adapter_metadata": json.dumps(config)})
    with pytest.raises(NotSupported, match=f"its metadata asks PEFT for transformer.{next(iter(option))}"):
        Fallback(sd3).read(path)


def test_alpha_in_the_metadata_counts_and_dropout_does_not_drop(sd3, folder):
    tensors = lora_tensors(sd3, text=False)
    names = sorted({key.removeprefix("transformer.").split(".lora_")[0] for key in tensors})
    config = {"r": 4, "lora_alpha": 2, "target_modules": names, "lora_dropout": 0.5}
    text = json.dumps({f"transformer.{name}": value for name, value in config.items()})
    half, whole = (
        write_lora(folder / f"{name}.safetensors", tensors, extra)
        for name, extra in (("half", {"lora_adapter_metadata": text}), ("whole", {}))
    )
    fallback, drawn = Fallback(sd3), []
    for path, value in ((half, "1"), (half, "1"), (whole, "0.5")):
        with fallback.attached(mix(fallback, (path, value))):
            drawn.append(latents(sd3))
    assert torch.equal(drawn[0], drawn[1])
    assert close(drawn[0], drawn[2])


def test_a_file_of_another_family_is_refused_unless_forced(sd3, pipeline, make_lora, tmp_path):
    other = make_lora(tmp_path / "sd.safetensors", SD1, rank=1)
    with pytest.raises(WrongBase, match=r"made for SD 1\.x .*; the base is StableDiffusion3Pipeline \(SD 3, SD 3\.5\)"):
        Fallback(sd3).read(other)
    assert "and this was forced" in Fallback(sd3).read(other, force=True).warnings[0]
    parsed = Mix(((dialects.read(other), strength("1")),))
    with pytest.raises(WrongBase, match=r"was read for 'sd1'; the base is this StableDiffusion3Pipeline"), Fallback(sd3).attached(parsed):
        pass
    with pytest.raises(WrongBase, match="the base is StableDiffusionPipeline"):
        Fallback(pipeline).read(other)


def test_what_metadata_alone_says_is_told_and_names_and_shapes_decide(sd3, folder):
    """Somebody wrote it; the tensors fit."""
    named = write_lora(folder / "named.safetensors", lora_tensors(sd3), {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"})
    fallback = Fallback(sd3)
    with fallback.attached(Mix(((fallback.read(named), strength("1")),))) as report:
        assert "made for SDXL" in report.networks[0].warnings[0]
        assert "matched by names and shapes" in report.networks[0].warnings[0]


def test_pipelines_that_cannot_be_put_back_are_refused(ink):
    sd3 = load_sd3()
    sd3.load_lora_weights(str(ink), adapter_name="mine")
    with pytest.raises(NotSupported, match="carries a PEFT adapter"):
        Fallback(sd3)
    sd3.unload_lora_weights()
    sd3.text_encoder.text_model.final_layer_norm.to(torch.float64)
    fallback = Fallback(sd3)
    with pytest.raises(NotSupported, match="diffusers would cast it"), fallback.attached(mix(fallback, (ink, "1"))):
        pass
    sd3.transformer.compile(backend="eager")
    with pytest.raises(NotSupported, match="transformer is compiled"):
        Fallback(sd3)
    with pytest.raises(NotSupported, match="diffusers has no LoRA loader for it"):
        Fallback(torch.nn.Linear(2, 2))
    sd3 = load_sd3()
    sd3.transformer.to("meta")
    with pytest.raises(NotSupported, match="has no weights"):
        Fallback(sd3)


# Files


def broken(tensors, which):
    first = next(iter(tensors))
    if which == "nan":
        return tensors | {first: torch.full_like(tensors[first], float("nan"))}
    if which == "half":
        return {key: tensor for key, tensor in tensors.items() if key != first}
    if which == "shape":
        return {key: tensor.repeat(1, 2) if "lora_A" in key else tensor for key, tensor in tensors.items()}
    if which == "rank":
        return tensors | {first: tensors[first][:2]}
    if which == "foreign":
        return {key.replace("transformer_blocks", "blocks").replace("encoder.layers", "layers"): tensor for key, tensor in tensors.items()}
    return {"hello.weight": torch.ones(2)}


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        ("nan", BadTensor, "holds NaN or infinite values"),
        ("half", BadTensor, "has no lora_A.weight; the file is incomplete"),
        ("shape", ShapeMismatch, r"the file gives \[32, 64\] .* the module has \[32, 32\]"),
        ("rank", ShapeMismatch, "use it with the base it was made for"),
        ("foreign", NothingApplied, "none of its 22 tensors fits this StableDiffusion3Pipeline: this pipeline has no transformer.blocks.0"),
        ("other", NothingApplied, "none of its 1 tensors fits"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error_and_changes_nothing(sd3, folder, which, error, message):
    path = write_lora(folder / f"{which}.safetensors", broken(lora_tensors(sd3), which))
    fallback = Fallback(sd3)
    with pytest.raises(error, match=message), fallback.attached(mix(fallback, (path, "1"))):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04pickle", "this is a pickle"),
        (b"", "the file is empty"),
        (b"\x08" + b"\0" * 7 + b'{"a":', "cut short|not what safetensors defines|describes"),
    ],
)
def test_a_pickle_and_a_damaged_file_never_reach_diffusers(sd3, folder, monkeypatch, content, message):
    path = folder / "damaged.safetensors"
    path.write_bytes(content)
    monkeypatch.setattr(sd3, "load_lora_weights", None)
    with pytest.raises(NotSafetensors, match=message):
        Fallback(sd3).read(path)


def test_keys_that_diffusers_does_not_use_are_reported(sd3, folder):
    strange = {
        "transformer.nonsense.lora_A.weight": torch.zeros(4, 4),
        "transformer.nonsense.lora_B.weight": torch.zeros(4, 4),
        "text_encoder_3.block.lora_A.weight": torch.zeros(4, 4),
    }
    path = write_lora(folder / "strange.safetensors", lora_tensors(sd3) | strange)
    fallback = Fallback(sd3)
    with fallback.attached(mix(fallback, (path, "1"))) as report:
        pass
    assert sorted(key.split(":")[0] for key in report.networks[0].unused) == sorted(strange)
    assert report.networks[0].applied == {"transformer": 9, "text_encoder": 2}


def test_keys_are_followed_through_a_conversion_that_splits_and_scales(folder):
    """Flux in kohya's names: diffusers splits one fused projection into three and folds alpha in."""
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2, axes_dims_rope=(2, 2, 4),
        joint_attention_dim=16, pooled_projection_dim=16,
    )  # fmt: skip
    flux = diffusers.FluxPipeline(diffusers.FlowMatchEulerDiscreteScheduler(), None, None, None, None, None, transformer)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, out in (("double_blocks_0_img_attn_qkv", 48), ("double_blocks_0_img_attn_proj", 16), ("double_blocks_7_img_attn_proj", 16)):
        tensors[f"lora_unet_{name}.lora_down.weight"] = torch.randn(4, 16, generator=generator)
        tensors[f"lora_unet_{name}.lora_up.weight"] = torch.randn(out, 4, generator=generator)
        tensors[f"lora_unet_{name}.alpha"] = torch.tensor(2.0)
    fallback = Fallback(flux)
    before = state(flux)
    with fallback.attached(mix(fallback, (write_lora(folder / "flux.safetensors", tensors), "1"))) as report:
        [network] = report.networks
    assert state(flux) == before
    assert network.applied == {"transformer": 4}
    left = [key.split(":")[0] for key in network.unused]
    assert sorted(left) == sorted(key for key in tensors if "_7_" in key)


@pytest.mark.parametrize("error", [ValueError("no idea\nsecond line"), RuntimeError("size mismatch"), KeyError("x"), OSError("gone")])
def test_errors_of_diffusers_are_ours(sd3, ink, monkeypatch, error):
    def load(*_, **__):
        raise error

    monkeypatch.setattr(sd3, "load_lora_weights", load)
    fallback = Fallback(sd3)
    message = r"ink\.safetensors: diffusers cannot load it into this StableDiffusion3Pipeline: "
    with pytest.raises(UnknownFormat, match=message) as caught, fallback.attached(mix(fallback, (ink, "1"))):
        pass
    assert "second line" not in str(caught.value)
    monkeypatch.undo()


# Faults inside


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_fault_inside_leaves_nothing(sd3, ink, neon, monkeypatch):
    fallback = Fallback(sd3)
    with pytest.raises(KeyboardInterrupt), fallback.attached(mix(fallback, (ink, "te=0:unet=0~1"), (neon, "1"))):
        sd3("a cat", num_inference_steps=2, callback_on_step_end=interrupt)

    plain, loads = sd3.load_lora_weights, []

    def second_fails(*arguments, **options):
        loads.append(options["adapter_name"])
        plain(*arguments, **options)
        if len(loads) == 2:
            raise ValueError("half of it is loaded")

    monkeypatch.setattr(sd3, "load_lora_weights", second_fails)
    with pytest.raises(LoraError, match="half of it is loaded"), fallback.attached(mix(fallback, (ink, "1"), (neon, "1"))):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(sd3, "unload_lora_weights", lambda: None)  # the tree is put back without it
    with fallback.attached(mix(fallback, (ink, "1"))):
        assert sd3.transformer.transformer_blocks[0].attn.to_q.base_layer is not None
    monkeypatch.undo()


def test_a_second_attach_on_the_same_modules_is_refused(sd3, ink, neon):
    fallback = Fallback(sd3)
    one, other = mix(fallback, (ink, "0")), mix(fallback, (neon, "1"))
    with fallback.attached(one), pytest.raises(EngineError, match="networks are attached"), fallback.attached(other):
        pass
