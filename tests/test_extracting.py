"""A mix in the prompt and the file made of it are the same: on disk, and in the picture."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from loraloom import ImageRequest, Session, read
from loraloom.combine import CombineRequest
from loraloom.errors import NotFound, NothingApplied, NotSupported, PromptError, SettingsError, WriteFailed
from loraloom.lorafile import Mix

MIX = "<lora:ink:0.8><lora:neon:te=0.4:unet=1>"


@pytest.fixture
def session(tmp_path, make_lora):
    make_lora(tmp_path / "loras" / "ink.safetensors", seed=1, metadata={"modelspec.trigger_phrase": "zvz"})
    make_lora(tmp_path / "loras" / "neon.safetensors", seed=2)
    return Session(lora_folders=[tmp_path / "loras"])


def drawn(session, prompt):
    request = ImageRequest(prompt=prompt, seed=3, base="nano")
    return np.asarray(session.generate(request)[0].image.convert("RGB")).astype(int)


@pytest.mark.parametrize("mix", [MIX, "<lora:ink:-0.5><lora:neon:in=0:mid=1:out=0.3>", "<lora:ink:1>", "<lora:ink:0.3><lora:ink:0.4>"])
def test_the_file_draws_what_the_mix_draws(session, tmp_path, mix):
    """At most 1/255: the file's tensors are float32, and sums are formed in another order."""
    found = session.extract(CombineRequest(mix=mix), tmp_path / "loras" / "mixed.safetensors")
    assert (found.error, found.dtype) == (0, "float32")
    assert found.worst.written < 1e-6
    plain, mixed = drawn(session, f"a cat {mix}"), drawn(session, "a cat <lora:mixed:1>")
    assert int(np.abs(plain - mixed).max()) <= 1
    assert int(np.abs(plain - drawn(session, "a cat")).max()) > 1


def test_rows_say_how_far_each_module_is(session, tmp_path):
    found = session.extract(CombineRequest(mix=MIX, rank=2), tmp_path / "x.safetensors")
    back = read(found.path)
    assert {row.module for row in found.rows} == {str(target) for target in back.adapters}
    assert found.ranks == (2, 2)
    assert all(row.ranks > 2 and 0 < row.error <= row.written < 1 for row in found.rows)
    assert found.dtype == "float16"
    assert sum(found.components.values()) == len(found.rows) == len(back.adapters)
    with safe_open(found.path, "np") as file:
        told = json.loads(file.metadata()["loraloom.combined_from"])
    assert (told["mix"], told["method"]) == (MIX, "rank 2")


def test_a_flattened_mix_is_the_mean_over_the_steps_of_each_strength(session, tmp_path):
    """And what the file says that it is in tags gives the same tensors."""
    mix = "<lora:ink:0~1:te=0@1,1@4><lora:neon:te=0.4:unet=1:in=0@1,2@3:start=2>"
    found = session.extract(CombineRequest(mix=mix, flatten=True, steps=5), tmp_path / "x.safetensors")
    assert (found.flattened.steps, found.flattened.mix) == (5, "<lora:ink:0.5:te=0.4><lora:neon:0.8:0.8:te=0.32:in=1.2>")
    with safe_open(found.path, "np") as file:
        told = json.loads(file.metadata()["loraloom.combined_from"])
    assert (told["mix"], told["method"]) == (mix, "exact")
    assert told["flattened"] == {"steps": 5, "mix": found.flattened.mix}
    again = session.extract(CombineRequest(mix=found.flattened.mix), tmp_path / "again.safetensors")
    assert load_file(found.path).keys() == load_file(again.path).keys()
    assert all(np.array_equal(tensor, load_file(again.path)[key]) for key, tensor in load_file(found.path).items())


def test_a_mean_is_over_the_steps_that_the_base_usually_takes(session, tmp_path):
    """Nano takes 4, of which the third and the fourth have the network."""
    found = session.extract(CombineRequest(mix="<lora:ink:0@1,1@3,9@7>", flatten=True), tmp_path / "x.safetensors")
    assert (found.flattened.steps, found.flattened.mix) == (4, "<lora:ink:0.5>")
    assert found.warnings == ("ink: 7 is beyond a run of 4 steps and counts for nothing",)


@pytest.mark.parametrize("dialect", ["kohya", "peft", "lycoris", "comfyui", "peft-folder"])
def test_every_naming_holds_it(session, tmp_path, dialect):
    found = session.extract(CombineRequest.of(mix=MIX, rank=3, dialect=dialect, components=("unet",)), tmp_path / "x.safetensors")
    assert {row.module.split(".")[0] for row in found.rows} == {"unet"}


@pytest.mark.parametrize(
    ("mix", "options", "error", "reason"),
    [
        ("a cat <lora:ink:1>", {}, PromptError, "tags alone"),
        ("", {}, PromptError, "tags alone"),
        ("<lora:inc:1>", {}, NotFound, 'did you mean "ink"'),
        ("<lora:ink:0~1>", {}, NotSupported, "one strength for all steps"),
        ("<lora:ink:1>", {"steps": 4}, SettingsError, "steps: are those of a mean"),
        ("<lora:ink:0@1,1@9>", {"flatten": True, "steps": 8}, NothingApplied, "at strength 0"),
        ("<lora:ink:1>", {"components": ("vae",)}, SettingsError, "has no vae; it has unet"),
        ("<lora:ink:1>", {"dtype": "int8"}, SettingsError, "dtype: .*'fp16', 'bf16' or 'fp32'"),
    ],
)
def test_mistakes_write_nothing(session, tmp_path, mix, options, error, reason):
    with pytest.raises(error, match=reason):
        session.extract(CombineRequest.of(mix=mix, **options), tmp_path / "new" / "x.safetensors")
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_over_unless_it_was_asked_for(session, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_text("mine")
    with pytest.raises(WriteFailed, match="is there already"):
        session.extract(CombineRequest(mix=MIX), path)
    assert path.read_text() == "mine"
    session.extract(CombineRequest(mix=MIX), path, overwrite=True)
    assert read(path).adapters
    assert sorted(each.name for each in tmp_path.iterdir()) == ["loras", "x.safetensors"]


def test_an_open_base_says_how_far_its_own_output_is(session, tmp_path):
    """Of what the mix changes in it: nothing but rounding for the exact file, much for one of rank 1. Untouched components are left out."""
    exact = session.extract(CombineRequest.of(mix=MIX), tmp_path / "exact.safetensors", live=True)
    small = session.extract(CombineRequest.of(mix=MIX, rank=1, base="nano"), tmp_path / "small.safetensors", live=True)
    assert exact.outputs.keys() == small.outputs.keys() == {"unet", "text_encoder"}
    assert max(exact.outputs.values()) <= 1e-4
    assert min(small.outputs.values()) >= 1e-2
    others = (
        {"mix": "<lora:ink:te=0:unet=1>"},
        {"mix": MIX, "components": ("unet",)},
        {"mix": "<lora:ink:te=0:unet=0~1>", "flatten": True},
    )
    for number, options in enumerate(others):
        only = session.extract(CombineRequest.of(**options), tmp_path / f"unet-{number}.safetensors", live=True)
        assert only.outputs.keys() == {"unet"}
        assert only.outputs["unet"] <= 1e-4
    assert session.extract(CombineRequest.of(mix=MIX), tmp_path / "closed.safetensors").outputs == {}


def test_rows_say_what_modules_put_out(session, tmp_path):
    exact = session.extract(CombineRequest.of(mix=MIX), tmp_path / "exact.safetensors")
    assert exact.furthest.output <= 1e-6
    small = session.extract(CombineRequest.of(mix=MIX, rank=1), tmp_path / "small.safetensors")
    assert all(0.05 < row.output < 1.5 for row in small.rows)


def test_a_bound_that_rounding_breaks_is_told(session, tmp_path):
    """float16 rounds by about 3e-4 of a change."""
    half = session.extract(CombineRequest.of(mix=MIX, error=1e-5), tmp_path / "half.safetensors")
    assert any("rounding to float16 takes 60 modules beyond 1e-05" in warning and "fp32 keeps them" in warning for warning in half.warnings)
    for options in ({"error": 1e-5, "dtype": "fp32"}, {"error": 0.05}, {"rank": 2}):
        found = session.extract(CombineRequest.of(mix=MIX, **options), tmp_path / "x.safetensors", overwrite=True)
        assert not found.warnings


def test_a_base_that_is_in_use_is_not_compared_and_that_is_told(session, tmp_path):
    opened = session._kept.bases.open("nano")
    with opened.engine.attached(Mix()):
        found = session.extract(CombineRequest.of(mix=MIX), tmp_path / "x.safetensors", live=True)
    assert found.outputs == {}
    assert any("what nano puts out was not compared: " in warning for warning in found.warnings)
    assert read(found.path).adapters
