"""Laws of facts: families, types and trigger words are the file's; a damaged file says why and hides nothing else."""

import json
from dataclasses import replace

import pytest

from loraloom.bases import SD1
from loraloom.catalogue import Catalogue
from loraloom.catalogue.sidecar import read_sidecar
from loraloom.catalogue.triggers import triggers


def facts(folder, name):
    catalogue = Catalogue([folder])
    return catalogue.facts(catalogue.find(name))


def test_family_type_rank_and_names_are_the_files(tmp_path, make_lora):
    make_lora(tmp_path / "a.safetensors", metadata={"ss_network_dim": "4", "ss_output_name": "A name"})
    make_lora(tmp_path / "b.safetensors", SD1, rank=1)
    found = facts(tmp_path, "a")
    assert (found.family, found.types, found.rank, found.aliases, found.problem) == ("nano", ("lora",), "4", ("A name",), "")
    assert found.modules == 60
    assert facts(tmp_path, "b").title == "SD 1.x"


def test_a_damaged_file_says_why(tmp_path, make_lora):
    make_lora(tmp_path / "good.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, this is a text")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:5000])
    assert "not a safetensors file" in facts(tmp_path, "text").problem
    assert "cut short" in facts(tmp_path, "cut").problem


def test_a_changed_file_is_read_anew(tmp_path, make_lora):
    make_lora(tmp_path / "a.safetensors", metadata={"ss_output_name": "old"})
    assert facts(tmp_path, "a").aliases == ("old",)
    make_lora(tmp_path / "a.safetensors", metadata={"ss_output_name": "newer"})
    assert facts(tmp_path, "a").aliases == ("newer",)


@pytest.mark.parametrize(
    ("files", "metadata", "words"),
    [
        ({"a.json": {"activation text": "zvz, ink"}}, {"modelspec.trigger_phrase": "other"}, ("zvz", "ink")),
        ({"a.metadata.json": {"trainedWords": ["zvz", "a, b"]}}, {}, ("zvz", "a, b")),
        ({"a.json": ["no", "words"], "a.civitai.info": {"trainedWords": ["zvz"]}}, {}, ("zvz",)),
        ({}, {"modelspec.trigger_phrase": "zvz", "modelspec.tags": "x"}, ("zvz",)),
        ({}, {"ss_tag_frequency": '{"10_a": {"cat": 3, "zvz": 10}, "5_b": {"cat": 9, " dog ": 1}}'}, ("cat", "zvz", "dog")),
        ({}, {"ss_tag_frequency": "[[[["}, ()),
        ({"a.json": {"activation text": 7}}, {"ss_tag_frequency": '{"a": 3}'}, ()),
    ],
)
def test_trigger_words_come_from_the_first_source_that_has_any(tmp_path, files, metadata, words):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert triggers(read_sidecar(tmp_path / "a.safetensors"), metadata).words == words


COUNTED = {"ss_tag_frequency": '{"10_a": {"cat": 6, "zvz": 10}, "5_b": {"cat": 3, "dog": 1}}'}


@pytest.mark.parametrize(
    ("metadata", "sure"),
    [
        ({**COUNTED, "ss_dataset_dirs": '{"10_a": {"n_repeats": 10, "img_count": 10}, "5_b": {"img_count": 5}}'}, ("zvz", "cat")),
        ({**COUNTED, "ss_datasets": '[{"subsets": [{"img_count": 20}, 7, {"img_count": "many"}]}]'}, ("zvz",)),
        ({**COUNTED, "ss_num_train_images": "10"}, ()),  # repeats are counted in it, so nobody knows
        ({**COUNTED, "ss_dataset_dirs": '{"a": {"img_count": -5}}'}, ()),
        ({"modelspec.trigger_phrase": "zvz", **COUNTED}, ("zvz",)),
    ],
)
def test_words_that_were_counted_are_sure_in_half_of_the_pictures(tmp_path, metadata, sure):
    assert triggers(read_sidecar(tmp_path / "a.safetensors"), metadata).sure == sure


@pytest.mark.parametrize(
    ("content", "strength", "notes"),
    [
        ({"preferred weight": 0.7, "notes": " good "}, 0.7, "good"),
        ({"preferred weight": -1, "notes": 5}, -1.0, ""),
        ({"preferred weight": 0}, None, ""),
        ({"preferred weight": True}, None, ""),
        ({"preferred weight": "0.7"}, 0.7, ""),
        ({"preferred weight": 1e300}, None, ""),
        ({"preferred weight": [1], "notes": {}, "activation text": 3, "tags": {"a": 1}}, None, ""),
        ([], None, ""),
        ("text", None, ""),
    ],
)
def test_notes_are_those_of_the_webui(tmp_path, make_lora, content, strength, notes):
    make_lora(tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = facts(tmp_path, "a")
    assert (found.strength, found.notes) == (strength, notes)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"activation text": "' + b"x" * 5_000_000 + b'"}', b"NaN"])
def test_a_sidecar_that_is_not_understood_says_nothing(tmp_path, make_lora, content):
    make_lora(tmp_path / "a.safetensors", metadata={"modelspec.trigger_phrase": "zvz"})
    (tmp_path / "a.json").write_bytes(content)
    assert facts(tmp_path, "a").triggers == ("zvz",)


def test_the_picture_beside_a_file_is_its_preview_in_the_order_of_the_webui(tmp_path, make_lora):
    make_lora(tmp_path / "a.safetensors")
    assert facts(tmp_path, "a").preview is None
    for ending in ("webp", "preview.jpg", "jpg", "preview.png", "png"):
        (tmp_path / f"a.{ending}").touch()
        assert facts(tmp_path, "a").preview == tmp_path / f"a.{ending}"


@pytest.mark.parametrize(
    "metadata",
    [
        {"ss_tag_frequency": json.dumps({"a": {"x" * 100_000: 1, "y": 10**400, "z": -1, " ": 5}})},
        {"ss_tag_frequency": json.dumps({str(n): {f"tag {n} {m}": m for m in range(50)} for n in range(200)})},
        {"ss_dataset_dirs": '{"a": {"img_count": 1e999}}', "ss_tag_frequency": '{"a": {"b": 1}}'},
        {"modelspec.trigger_phrase": "," * 100_000 + "x" * 100_000, "ss_network_dim": "8" * 10_000},
        {"ss_output_name": "n" * 100_000, "modelspec.title": "", "sshs_model_hash": "0x" + "f" * 10_000},
        {"ss_datasets": "[" * 100_000, "ss_tag_frequency": "{" * 100_000},
    ],
)
def test_what_strangers_say_is_bounded(tmp_path, make_lora, metadata):
    make_lora(tmp_path / "a.safetensors", metadata=metadata)
    found = facts(tmp_path, "a")
    assert (found.family, found.types, found.problem) == ("nano", ("lora",), "")
    assert len(found.triggers) <= 1000
    assert all(0 < len(word) <= 500 for word in (*found.triggers, *found.aliases, *found.tags))
    assert len(found.rank) <= 20
    assert len(found.hash) <= 64


def test_metadata_alone_tells_the_same_save_the_tensors(tmp_path, make_lora):
    make_lora(tmp_path / "a.safetensors", metadata={"ss_output_name": "A name", "modelspec.trigger_phrase": "zvz"})
    catalogue = Catalogue([tmp_path])
    [item] = catalogue.items
    told, whole = catalogue.facts(item, complete=False), catalogue.facts(item)
    assert replace(told, types=whole.types, modules=whole.modules, complete=True) == whole
