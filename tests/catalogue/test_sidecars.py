"""Laws of notes: each tool's own form is read, what cannot be read is told beside the file, and nothing of it is an error."""

import codecs
import json

import pytest

from loraloom.catalogue import Catalogue
from loraloom.catalogue.inspecting import inspect
from loraloom.catalogue.sidecar import read_sidecar

MANAGER = {  # ComfyUI LoRA Manager, py/utils/models.py (LoraMetadata), version 0.8
    "file_name": "ink",
    "model_name": "Ink drawings",
    "file_path": "/models/loras/ink.safetensors",
    "base_model": "SDXL 1.0",
    "notes": "good at 0.6",
    "civitai": {"trainedWords": ["zvz ink", "flat"], "model": {"name": "Ink", "tags": ["style"]}},
    "tags": ["drawing", "monochrome"],
    "favorite": True,
    "usage_tips": '{"strength": 0.6, "strength_min": 0.3}',
}
SWARM = {  # SwarmUI writes what its editor holds under ModelSpec's keys
    "modelspec.title": "Ink drawings",
    "modelspec.trigger_phrase": "zvz ink, flat",
    "modelspec.tags": ["drawing", "monochrome"],
    "modelspec.usage_hint": "good at 0.6",
    "modelspec.lora_default_weight": "0.6",
}
MATRIX = {  # Stability Matrix, ConnectedModelInfo
    "ModelName": "Ink drawings",
    "BaseModel": "SDXL 1.0",
    "Tags": ["drawing", "monochrome"],
    "TrainedWords": ["zvz ink", "flat"],
}
CIVITAI = {"trainedWords": ["zvz ink", "flat"], "baseModel": "SDXL 1.0", "model": {"name": "Ink drawings", "tags": ["drawing"]}}
WEBUI = {"activation text": "zvz ink, flat", "preferred weight": 0.6, "notes": "good at 0.6", "sd version": "SDXL"}


def beside(folder, ending, content):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / f"ink{ending}").write_bytes(data)
    return read_sidecar(folder / "ink.safetensors")


@pytest.mark.parametrize(
    ("ending", "content", "strength", "notes", "base"),
    [
        (".metadata.json", MANAGER, 0.6, "good at 0.6", "SDXL 1.0"),
        (".swarm.json", SWARM, 0.6, "good at 0.6", ""),
        (".cm-info.json", MATRIX, None, "", "SDXL 1.0"),
        (".civitai.info", CIVITAI, None, "", "SDXL 1.0"),
        (".json", WEBUI, 0.6, "good at 0.6", "SDXL"),
        (".JSON", WEBUI, 0.6, "good at 0.6", "SDXL"),
    ],
)
def test_each_tools_notes_are_read(tmp_path, ending, content, strength, notes, base):
    found = beside(tmp_path, ending, content)
    assert found.words == ("zvz ink", "flat")
    assert (found.strength, found.notes, found.base) == (strength, notes, base)
    assert found.problems == ()
    assert found.favorite is (content is MANAGER)
    if "name" in str(content).lower():
        assert "Ink drawings" in found.names


@pytest.mark.parametrize("ending", [".json", ".metadata.json", ".swarm.json", ".cm-info.json", ".civitai.info"])
def test_tags_are_never_trigger_words(tmp_path, ending):
    found = beside(tmp_path, ending, {"tags": ["drawing"], "Tags": ["drawing"], "model": {"tags": ["drawing"]}})
    assert (found.words, found.tags) == ((), ("drawing",))


def test_the_users_own_notes_count_before_those_of_tools(tmp_path):
    for ending, word in ((".civitai.info", "c"), (".metadata.json", "b"), (".json", "a")):
        assert beside(tmp_path, ending, {"trainedWords": [word]}).words == (word,)


def test_what_a_library_shows_is_what_the_notes_say(tmp_path, make_lora):
    make_lora(tmp_path / "ink.safetensors")
    beside(tmp_path, ".metadata.json", MANAGER)
    catalogue = Catalogue([tmp_path])
    item = catalogue.find("Ink drawings")
    facts = catalogue.facts(item)
    assert (facts.triggers, facts.tags, facts.favorite, facts.base_told) == (
        ("zvz ink", "flat"),
        ("drawing", "monochrome"),
        True,
        "SDXL 1.0",
    )
    assert catalogue.search("sdxl monochrome") == (item,)


TEXT = '{"activation text": "zvz Müll", "preferred weight": 0.6}'


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
        TEXT.replace("0.6", '" 0.6 "').encode(),
        TEXT.replace("0.6", '0.6, "width": NaN').encode(),
        TEXT.replace("0.6", '0.6, "notes": "two\nlines"').encode(),
        b"\n " + TEXT.encode(),
    ],
)
def test_other_encodings_and_numbers_as_text_are_read(tmp_path, content):
    found = beside(tmp_path, ".json", content)
    assert (found.words, found.strength, found.problems) == (("zvz Müll",), 0.6, ())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not JSON: the file is empty"),
        (b"  ", "not JSON: the file is empty"),
        (TEXT.encode()[:30], "not JSON: the file was cut short"),
        (TEXT.encode()[:-1], "not JSON: the file was cut short"),
        (b"{'activation text': 'zvz'}", "not JSON: line 1, column 2"),
        (b"[" * 100_000, "ink.json: these notes do not count"),
        (b"\x89PNG\xff\x80" * 9, "ink.json: not UTF-8"),
        (TEXT.encode("cp1252"), "not UTF-8; read as Windows-1252"),
        (b'"' + b"x" * 5_000_000 + b'"', "larger than 4 MiB"),
        ({"preferred weight": "much"}, "preferred weight is 'much', not a number"),
        ({"preferred weight": True}, "preferred weight is 'True', not a number"),
        ({"preferred weight": 1e300}, "preferred weight is '1e+300', not a number up to 1e+06"),
        ({"preferred weight": [1]}, "preferred weight is '[1]', not a number"),
        ({"activation text": 7}, "activation text is '7', not a text or a list of texts"),
        ({"notes": {"a": 1}}, "notes is"),
        ({"usage_tips": "{strength: 1}"}, "usage_tips is '{strength: 1}', not JSON"),
        ({"usage_tips": "[[" * 50_000}, "usage_tips is"),
    ],
)
def test_what_cannot_be_read_is_told_once_beside_the_file(tmp_path, make_lora, content, told):
    path = make_lora(tmp_path / "ink.safetensors", metadata={"modelspec.trigger_phrase": "meta"})
    found = beside(tmp_path, ".json", content)
    assert len([problem for problem in found.problems if told in problem]) == 1, found.problems
    assert len(set(found.problems)) == len(found.problems)
    catalogue = Catalogue([tmp_path], index=tmp_path / "index.sqlite")
    facts = catalogue.facts(catalogue.find("ink"))
    assert (facts.problem, facts.beside) == ("", found.problems)
    again = Catalogue([tmp_path], index=tmp_path / "index.sqlite")
    assert again.facts(again.find("ink")).beside == found.problems
    assert set(found.problems) <= set(inspect(path).warnings)


@pytest.mark.parametrize(
    "content", [[], "text", 5, None, {}, {"nodes": [], "links": []}, {"model": "a", "activation text": "", "preferred weight": 0}]
)
def test_a_file_of_something_else_is_no_problem(tmp_path, content):
    found = beside(tmp_path, ".json", content)
    assert (found.words, found.strength, found.problems) == ((), None, ())


def test_a_file_that_the_system_does_not_let_be_read_is_told(tmp_path):
    (tmp_path / "ink.json").mkdir()
    [problem] = read_sidecar(tmp_path / "ink.safetensors").problems
    assert "these notes cannot be read" in problem


def test_list_tells_of_notes_that_cannot_be_read_and_of_links(tmp_path, make_lora):
    from typer.testing import CliRunner

    from loraloom.cli import app

    make_lora(tmp_path / "ink.safetensors")
    (tmp_path / "ink.json").write_text("{")
    (tmp_path / "gone.safetensors").symlink_to("nowhere")
    done = CliRunner().invoke(app, ["list", "ink", "--lora-folder", str(tmp_path)])
    assert done.exit_code == 0
    assert done.stderr.count("note: ink.json: these notes do not count") == 1
    assert "note: gone: a link that leads to nothing" in done.stderr
    [entry] = json.loads(CliRunner().invoke(app, ["list", "ink", "--json", "--lora-folder", str(tmp_path)]).stdout)
    assert "cut short" in entry["notices"][0]
