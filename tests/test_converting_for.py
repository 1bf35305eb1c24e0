"""Laws of converting for a program: it reads the result as it is meant, or nothing is written and the reason is said.

The programs are those of tools/interchange: their own loaders, or re-enacted key maps and formulas.
"""

import json
from collections import Counter

import pytest
import torch
from tools.interchange.forms import FORMS
from tools.interchange.measure import NEAR, PEERS, distance, network, places

from loraloom import dialects
from loraloom.adapters import Full, LoRA
from loraloom.bases import NANO
from loraloom.combine import CombineRequest, Goal, ResizeRequest
from loraloom.converting import convert
from loraloom.dialects.readers import READ, TOOLS, likeliest, of_tool
from loraloom.errors import LoraError, NotSupported, SettingsError
from loraloom.extracting import extract, resize
from loraloom.lorafile import LoraFile
from loraloom.strength import Strength

PEER = {peer.name: peer for peer in PEERS}
# LyCORIS' own loader takes the longest; its types are the same.
CASES = [
    (tool, form) for tool in TOOLS for form in FORMS if tool != "lycoris" or form in ("lora", "bias", "lokr tucker", "dora of columns")
]


def file_of(form, **metadata):
    return LoraFile({places()[kind].layer.target: adapter for kind, adapter in network(form).items()}, metadata, "nano")


def source_of(folder, form):
    return dialects.write(file_of(form), folder / "source.safetensors", dtype=torch.float32)


def weight_of(target):
    return next(place.weight for place in places().values() if place.layer.target == target)


def as_meant(tool, form, path):
    """Whether the program makes of the file what the network was meant to be, at strength 1, on every module."""
    peer, meant = PEER[tool], {place.layer.target: place for place in places().values()}
    changes = peer.changes(path, {target: meant[target] for target in file_of(form).adapters}, NANO, 1.0)
    kinds = network(form)
    expected = {places()[kind].layer.target: peer.expected(adapter, places()[kind], 1.0) for kind, adapter in kinds.items()}
    return changes.keys() == expected.keys() and all(distance(changes[target], wanted) <= NEAR for target, wanted in expected.items())


@pytest.mark.parametrize(("tool", "form"), CASES)
def test_the_program_reads_the_result_as_it_is_meant_or_nothing_is_written(tmp_path, tool, form):
    source = source_of(tmp_path, form)
    try:
        found = convert(source, tmp_path / "x.safetensors", tool=tool, weights=weight_of, dtype="fp32")
    except NotSupported:
        assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]
        return
    assert as_meant(tool, form, found.path), found.types
    assert found.errors == {}
    assert found.left_out == ()


def test_what_is_read_stays_what_it_is(tmp_path):
    source = source_of(tmp_path, "lokr")
    found = convert(source, tmp_path / "x.safetensors", tool="comfyui")
    assert (found.types, found.warnings, found.dialect) == ({"lokr": len(network("lokr"))}, (), "kohya")


@pytest.mark.parametrize(
    ("tool", "form", "types"),
    [
        ("kohya", "loha", {"lora"}),
        ("kohya", "lokr", {"lora"}),
        ("diffusers", "tucker", {"lora"}),
        ("comfyui", "dora", {"full"}),
        ("comfyui", "lokr tucker", {"lora", "full"}),
        ("invokeai", "oft", {"full"}),
        ("sdnext", "bias", {"full"}),
        ("sdnext", "glora", {"full"}),
    ],
)
def test_the_smaller_of_what_is_read_is_taken(tmp_path, tool, form, types):
    found = convert(source_of(tmp_path, form), tmp_path / "x.safetensors", tool=tool, weights=weight_of)
    assert found.types.keys() <= types
    assert found.tool == tool


def test_the_naming_with_the_most_is_taken():
    """ComfyUI finds norms of text encoders in its own naming alone; diffusers finds magnitudes in PEFT's."""
    for tool, form, dialect in (
        ("comfyui", "norm of a text encoder", "comfyui"),
        ("comfyui", "norm", "kohya"),
        ("diffusers", "dora", "peft"),
    ):
        assert likeliest(file_of(form), NANO, tool).dialect == dialect


def test_what_needs_the_base_asks_for_it(tmp_path):
    with pytest.raises(
        NotSupported, match=r"ComfyUI does not read dora as it is meant \(it divides by the norms of W.*give the base"
    ) as error:
        convert(source_of(tmp_path, "dora"), tmp_path / "x.safetensors", tool="comfyui")
    assert "base" in error.value.fields
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


def test_what_fits_no_form_without_loss_asks_how_much_may_be_lost(tmp_path):
    source = source_of(tmp_path, "full")
    with pytest.raises(NotSupported, match=r"diffusers does not read full as it is meant.*say with a rank, an error or an energy"):
        convert(source, tmp_path / "x.safetensors", tool="diffusers")
    found = convert(source, tmp_path / "x.safetensors", tool="diffusers", goal=Goal(error=0.5))
    assert found.types == {"lora": len(network("full"))}
    assert 0 < max(found.errors.values()) <= 0.5


def test_what_is_right_at_strength_1_alone_is_told(tmp_path):
    found = convert(source_of(tmp_path, "oft"), tmp_path / "x.safetensors", tool="comfyui")
    assert found.warnings == (
        f"ComfyUI reads oft ({found.modules} modules) as it is meant at strength 1, and otherwise at other strengths",
    )


def test_a_program_that_there_is_not_is_refused(tmp_path):
    source = source_of(tmp_path, "lora")
    with pytest.raises(SettingsError, match=r"no program named 'comfy'.*did you mean \"comfyui\""):
        convert(source, tmp_path / "x.safetensors", tool="comfy")
    with pytest.raises(SettingsError, match="give one of the two"):
        convert(source, tmp_path / "x.safetensors", tool="forge", dialect="kohya")


# Plain factors.


@pytest.mark.parametrize("form", FORMS)
def test_plain_factors_are_read_by_everybody_or_refused(tmp_path, form):
    source = source_of(tmp_path, form)
    try:
        found = convert(source, tmp_path / "x.safetensors", plain=True, weights=weight_of, dtype="fp32")
    except NotSupported:
        assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]
        return
    assert found.types == {"lora": found.modules}
    written = dialects.read(found.path)
    for tool in ("comfyui", "forge", "sdnext", "invokeai", "kohya"):
        reads = of_tool(tool)[0]
        assert form == "lora of an embedding" or all(
            reads.of(adapter, NANO.by_target[t])[1] in READ for t, adapter in written.adapters.items()
        )
    for target, adapter in file_of(form).adapters.items():
        wanted = adapter.delta(weight_of(target))
        assert float((written.adapters[target].delta(weight_of(target)) - wanted).norm()) <= NEAR * float(wanted.norm())
        assert written.adapters[target].tensors().keys() == {"lora_down.weight", "lora_up.weight", "alpha"}
    biased = [target for target, adapter in file_of(form).adapters.items() if "diff_b" in adapter.tensors()]
    assert len(found.left_out) == len(biased)


def test_what_plain_factors_have_no_place_for_is_named_with_its_size(tmp_path):
    adapters = {**file_of("bias").adapters, **file_of("norm").adapters}
    source = dialects.write(LoraFile(adapters, {}, "nano"), tmp_path / "source.safetensors", dtype=torch.float32)
    found = convert(source, tmp_path / "x.safetensors", plain=True)
    kinds = Counter("norm" if "a norm" in line else "bias" for line in found.left_out)
    assert kinds == {"bias": len(network("bias")), "norm": len(network("norm"))}
    bias = next(iter(network("bias").values())).bias
    assert any(f"a bias of length {float(bias.norm()):.2g}" in line for line in found.left_out)
    assert all(isinstance(adapter, LoRA) for adapter in dialects.read(found.path).adapters.values())


def test_who_refuses_a_bias_or_a_core_is_told_where_it_is_written(tmp_path):
    for form, part in (("bias", "a bias on"), ("tucker", "a Tucker core on")):
        found = convert(source_of(tmp_path, form), tmp_path / f"{form}.safetensors")
        (told,) = found.warnings
        assert told.startswith("diffusers refuses the whole file in kohya naming for")
        assert part in told
        assert convert(tmp_path / "source.safetensors", tmp_path / f"{form} plain.safetensors", plain=True).warnings == ()
        (tmp_path / "source.safetensors").unlink()


def test_nothing_that_factors_could_hold_is_refused(tmp_path):
    with pytest.raises(LoraError, match="nothing of it is a change of a weight"):
        convert(source_of(tmp_path, "norm"), tmp_path / "x.safetensors", plain=True)


def test_the_metadata_says_what_it_became(tmp_path):
    found = convert(source_of(tmp_path, "loha"), tmp_path / "x.safetensors", tool="kohya")
    told = dialects.read(found.path).metadata
    assert json.loads(told["ss_network_args"])["algo"] == "lora"
    assert json.loads(told["loraloom.converted_from"])["types"] == {"loha": found.modules}
    assert not any(isinstance(adapter, Full) for adapter in dialects.read(found.path).adapters.values())


# Mixes and smaller networks for a program.


def test_a_mix_is_named_and_typed_as_the_program_reads_it(tmp_path):
    stack = ((file_of("lora"), Strength.of(0.5)), (file_of("loha"), Strength.of(1.0)))
    for tool, dialect in (("diffusers", "diffusers/PEFT"), ("kohya", "kohya"), ("comfyui", "kohya")):
        path = tmp_path / f"{tool}.safetensors"
        found = extract(stack, NANO, path, CombineRequest.of(tool=tool))
        assert found.dialect == dialect
        expected = {
            target: 0.5 * a.delta(weight_of(target)) + file_of("loha").adapters[target].delta(weight_of(target))
            for target, a in file_of("lora").adapters.items()
        }
        meant = {place.layer.target: place for place in places().values() if place.layer.target in expected}
        changes = PEER[tool].changes(path, meant, NANO, 1.0)
        assert changes.keys() == expected.keys()
        assert all(float((changes[t].weight - wanted).norm()) <= NEAR * float(wanted.norm()) for t, wanted in expected.items())


def test_a_mix_that_the_program_would_read_wrong_is_refused(tmp_path):
    stack = ((file_of("bias"), Strength.of(1.0)),)
    with pytest.raises(NotSupported, match=r"sd-scripts does not read bias as it is meant \(it passes it over\)"):
        extract(stack, NANO, tmp_path / "x.safetensors", CombineRequest.of(tool="kohya"))
    assert list(tmp_path.iterdir()) == []
    told = extract(stack, NANO, tmp_path / "x.safetensors", CombineRequest.of()).warnings
    assert any(line.startswith("diffusers refuses the whole file in kohya naming for a bias on") for line in told)


def test_a_smaller_network_is_for_the_program_too(tmp_path):
    found = resize(file_of("loha"), NANO, tmp_path / "x.safetensors", ResizeRequest.of(tool="diffusers", rank=2))
    assert (found.dialect, found.types.keys()) == ("diffusers/PEFT", {"lora"})
