"""Laws of names: every spelling finds its file, two files of a name are listed, none comes with the nearest names."""

import os
import sys
from pathlib import Path

import pytest

from loraloom.bases import SD1
from loraloom.catalogue import Catalogue, scan
from loraloom.errors import Ambiguous, NotFound
from loraloom.tensorfile import Header


@pytest.fixture
def library(tmp_path, make_lora):
    make_lora(tmp_path / "one" / "ink.safetensors", seed=1, metadata={"ss_output_name": "Ink drawing", "modelspec.title": "Black ink"})
    make_lora(tmp_path / "one" / "styles" / "neon.safetensors", seed=2)
    make_lora(tmp_path / "one" / "odd: name.safetensors", seed=3)
    make_lora(tmp_path / "two" / "neon.safetensors", seed=4)
    make_lora(tmp_path / "one" / ".hidden.safetensors", seed=5)
    (tmp_path / "one" / "notes.txt").touch()
    return Catalogue([tmp_path / "one", tmp_path / "two"])


def test_a_scan_finds_every_file_once(library, tmp_path):
    assert [item.below for item in library.items] == ["ink", "odd: name", "styles/neon", "neon"]
    (tmp_path / "one" / "loop").symlink_to(tmp_path / "one")
    assert len(scan([tmp_path / "one", tmp_path / "two", tmp_path / "one"])) == 4


def test_links_out_of_the_library_are_not_followed(tmp_path, make_lora):
    outside = make_lora(tmp_path / "outside" / "secret.safetensors")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.safetensors").symlink_to(outside)
    (tmp_path / "one" / "b").symlink_to(outside.parent)
    assert scan([tmp_path / "one"]) == ()
    assert len(scan([tmp_path / "one", tmp_path / "outside"])) == 1


def test_every_spelling_finds_the_file(library, tmp_path):
    ink = tmp_path / "one" / "ink.safetensors"
    digest = Header.read(ink).metadata["sshs_model_hash"]
    for name in ("ink", "ink.safetensors", "one/ink", "Ink drawing", "Black ink", digest, digest[:8], digest[:12].upper(), str(ink)):
        assert library.find(name).path == ink
    assert library.find("styles/neon").path.parent.name == "styles"
    assert library.find("two/neon").path.parent.name == "two"


def test_several_matches_are_listed_each_with_a_name_of_its_own(library):
    with pytest.raises(Ambiguous) as error:
        library.find("neon")
    names = [line.strip() for line in str(error.value).splitlines()[1:]]
    assert names == ["styles/neon", "two/neon"]
    assert len({library.find(name).path for name in names}) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("inc", 'no LoRA named "inc"; did you mean "ink"?'),
        ("Ink drawin", 'did you mean "Ink drawing"?'),
        ("zzzzzz", "there are ink, neon, odd: name"),
        ("../two/neon", 'no LoRA named "../two/neon"'),
        ("abcdef", "no LoRA named"),
        ("/nowhere/ink.safetensors", 'no file "/nowhere/ink.safetensors"'),
        ("hf:owner/repo", "not fetched from the hub yet"),
    ],
)
def test_no_match_comes_with_the_nearest_names(library, name, message):
    with pytest.raises(NotFound) as error:
        library.find(name)
    assert message in str(error.value)


def test_absolute_paths_can_be_forbidden(library, tmp_path):
    with pytest.raises(NotFound):
        library.find(str(tmp_path / "one" / "ink.safetensors"), paths=False)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    (tmp_path / "loras").mkdir()
    with pytest.raises(NotFound, match='did you mean "loras"'):
        Catalogue([tmp_path / "lora"])


def test_ids_are_of_the_place_and_lead_back(library, tmp_path, make_lora):
    ids = {item.id: item for item in library.items}
    assert len(ids) == 4
    assert all(len(identity) == 16 and int(identity, 16) >= 0 for identity in ids)
    assert all(library.get(identity) is item for identity, item in ids.items())
    make_lora(tmp_path / "one" / "ink.safetensors", seed=9)
    assert {item.id for item in Catalogue([tmp_path / "two", tmp_path / "one"]).items} == set(ids)
    with pytest.raises(NotFound, match="no LoRA has the id"):
        library.get("../../etc/passwd")


def test_a_rescan_sees_what_came_went_and_changed(library, tmp_path, make_lora):
    before = library.items
    library.rescan()
    assert all(old is new for old, new in zip(before, library.items, strict=True))
    make_lora(tmp_path / "two" / "new.safetensors")
    (tmp_path / "one" / "ink.safetensors").unlink()
    library.rescan()
    assert [item.name for item in library.items] == ["odd: name", "neon", "neon", "new"]
    gone = before[0]
    assert library.find("new").name == "new"
    with pytest.raises(NotFound):
        library.get(gone.id)
    (tmp_path / "two").rename(tmp_path / "three")
    with pytest.raises(NotFound, match="no such folder"):
        library.rescan()
    assert len(library.items) == 4


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ["ink", "odd: name", "styles/neon", "neon"]),
        ("NEON", ["styles/neon", "neon"]),
        ("styles neon", ["styles/neon"]),
        ("black INK", ["ink"]),
        ("zvz", ["ink"]),
        ("watercolour", ["odd: name"]),
        ("nano lora", ["ink", "odd: name", "styles/neon", "neon"]),
        ("ink neon", []),
        ("%", []),
    ],
)
def test_search_finds_what_has_all_words(library, tmp_path, words, names):
    (tmp_path / "one" / "ink.json").write_text('{"activation text": "zvz, ink"}')
    (tmp_path / "one" / "odd: name.metadata.json").write_text('{"trainedWords": ["x"], "tags": ["watercolour"]}')
    library.rescan()
    assert [item.below for item in library.search(words)] == names


def test_search_keeps_to_a_family_and_a_type(library, tmp_path, make_lora):
    make_lora(tmp_path / "one" / "sd.safetensors", SD1, rank=1)
    library.rescan()
    assert [item.name for item in library.search(family="sd1")] == ["sd"]
    assert [item.name for item in library.search("s", family="SD 1.X", type="LoRA")] == ["sd"]
    assert library.search(family="sdxl") == library.search(type="loha") == ()


def test_a_search_that_does_not_wait_reads_metadata_only(library, monkeypatch):
    from loraloom.tensorfile import Header

    with monkeypatch.context() as patched:
        patched.setattr(Header, "read", lambda *_: pytest.fail("a whole header was read"))
        assert [item.name for item in library.search("ink drawing", complete=False)] == ["ink"]
        facts = library.facts(library.items[0], complete=False)
    assert (facts.family, facts.types, facts.complete) == ("nano", (), False)
    library.complete()
    assert library.facts(library.items[0], complete=False).types == ("lora",)


def test_every_tag_leads_back_to_its_file(tmp_path, make_lora):
    """Also where folders, files and aliases have the same names."""
    for seed, place in enumerate(("a/loras/x", "b/loras/x", "a/loras/y/x", "b/loras/hf:z", "b/loras/w.safetensors", "a/loras/alias")):
        make_lora(tmp_path / f"{place}.safetensors", seed=seed, rank=1, metadata={"ss_output_name": "x"})
    catalogue = Catalogue([tmp_path / "a" / "loras", tmp_path / "b" / "loras"])
    tags = [catalogue.tag(item) for item in catalogue.items]
    assert len(set(tags)) == 6
    assert {"alias", "y/x", '"hf:z"', "w.safetensors"} <= set(tags)
    assert sum(len(tag) == 12 for tag in tags) == 2  # hashes: two x below folders of one name
    for item in catalogue.items:
        assert catalogue.find(catalogue.tag(item)) == item


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_can_be_shown_and_found(tmp_path, make_lora):
    path = make_lora(tmp_path / "x.safetensors").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.safetensors"))
    catalogue = Catalogue([tmp_path], index=tmp_path / "index.sqlite")
    catalogue.complete()
    [item] = Catalogue([tmp_path], index=tmp_path / "index.sqlite").search("�")
    assert (item.path, item.name, catalogue.tag(item)) == (path, "��", "��")
    assert catalogue.find("��") == item
    assert catalogue.facts(item).problem == ""


def test_folders_nested_deeper_than_python_calls_are_scanned(tmp_path, make_lora, monkeypatch):
    make_lora(tmp_path / "x.safetensors")
    monkeypatch.chdir(tmp_path)
    depth = sys.getrecursionlimit() + 100
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    try:
        assert [item.name for item in scan([tmp_path])] == ["x"]
    finally:  # here, as pytest's own cleaning calls itself for each folder
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()


def test_links_beside_a_file_that_lead_out_are_not_followed(tmp_path, make_lora):
    make_lora(tmp_path / "one" / "x.safetensors")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "one" / "x.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "one" / "x.json").symlink_to("x.json")
    assert scan([tmp_path / "one"])[0].beside == ()
    (tmp_path / "one" / "x.webp").write_bytes(b"")
    (tmp_path / "one" / "x.preview.png").mkdir()
    assert [each.ending for each in scan([tmp_path / "one"])[0].beside] == [".webp"]
