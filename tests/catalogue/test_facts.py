"""Laws of facts: families, types and trigger words are the file's; a damaged file says why and hides nothing else."""

import json

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
