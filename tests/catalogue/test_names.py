"""Laws of hostile names: what the catalogue gives as a file's tag, put into a prompt, draws with that file and no other."""

import json
import os
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraloom import ImageRequest, Session
from loraloom.catalogue import Catalogue
from loraloom.errors import Ambiguous, NotFound
from loraloom.generate.infotext import Recipe
from loraloom.prompts import LoraTag, parse, spelled, unquoted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="most of these names are impossible there")

HARD = (
    *("a:b", "a<b>", "<lora:x:1>", '"', '"ink"', "'ink'", "a,b", "(a:1.2)", "[a|b]", "a AND b", "BREAK", "_tags_", "a\\b", "\\", "a\nb"),
    *(" ink", "ink ", "  ", "ink.", "-", "1", "0.8", "1e3", "te=1", "unet", "dyn=4", "lbw", "0.2@1", "deadbeef", "0xdeadbeef", "NONE"),
    *("hf:owner", "C:x", "~", "~nobody", "~/x", "$HOME", "%41", "*", "?", "ink.safetensors", "v1.safetensors.SAFETENSORS", "ink.pt"),
    *(
        "ÄÖ",
        unicodedata.normalize("NFD", "ÄÖ"),
        "ﬁx",
        "fix",
        "İ",
        "ß",
        "ss",
        "ink",
        "INK",
        "Ink",
        "\u202egpj",
        "\u200b",
        "x" * 200,
        "字" * 70,
    ),
)
names = st.sampled_from(HARD) | st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
places = st.lists(st.tuples(st.sampled_from(["", "a/", "a:b/", " a /", "b/a/"]), names), min_size=1, max_size=12)


def put(folder, below, ending=".safetensors"):
    path = folder / f"{below}{ending}"
    if not any(part.startswith(".") or len(part.encode()) > 255 for part in path.relative_to(folder).parts):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def told(catalogue, text):
    """The file of the only tag in a prompt."""
    [tag] = parse(text).loras
    return catalogue.find(tag.name, paths=False)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_tag_of_every_file_means_this_file(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("x") / "loras"
    folder.mkdir()
    for inside, name in data.draw(places):
        put(folder, inside + name)
    catalogue = Catalogue([folder])
    tags = [catalogue.tag(item) for item in catalogue.items]
    assert len(set(tags)) == len(tags)
    for item, tag in zip(catalogue.items, tags, strict=True):
        assert told(catalogue, f"a cat, <lora:{tag}:0.8> at night") is item
        assert told(catalogue, f"<lora:{tag}>") is item
        assert told(catalogue, str(LoraTag(catalogue.called(item)))) is item
        assert catalogue.find(tag, paths=False) is item


def test_all_hard_names_at_once(tmp_path):
    """The same names in a second library of the same name, so that no path below tells them apart."""
    folders = [tmp_path / "one" / "loras", tmp_path / "two" / "loras"]
    for folder in folders:
        for name in HARD:
            put(folder, name)
            put(folder, f"sub/{name}")
    catalogue = Catalogue(folders)
    assert len(catalogue.items) >= 4 * len(HARD) - 8
    for item in catalogue.items:
        assert told(catalogue, f"<lora:{catalogue.tag(item)}:1>") is item


@given(names)
def test_a_spelled_name_reads_back(name):
    assert unquoted(spelled(name)) == name
    assert parse(f"<lora:{spelled(name)}:1>").loras[0].name == name


@pytest.mark.parametrize(
    ("typed", "file"),
    [
        ("INK", "styles/Ink"),
        ("Styles/ink", "styles/Ink"),
        ("styles\\Ink", "styles/Ink"),
        (" ink ", "styles/Ink"),
        ("ink.SAFETENSORS", "styles/Ink"),
        ("Ink.safetensors", "styles/Ink"),
        ("styles/Ink.safetensors", "styles/Ink"),
        (unicodedata.normalize("NFC", "Müll"), "Müll"),
        (unicodedata.normalize("NFD", "Müll"), "Müll"),
        ("ｍüll", "Müll"),
        ("big", "big"),
        ("spaced", " spaced "),
        ('"a:b"', "a:b"),
        ("v1.safetensors", "v1.safetensors"),
        ("v1.safetensors.safetensors", "v1.safetensors"),
    ],
)
def test_other_spellings_of_a_name_find_the_file_that_they_alone_can_mean(tmp_path, typed, file):
    for below in ("styles/Ink", unicodedata.normalize("NFD", "Müll"), " spaced ", "a:b", "v1.safetensors"):
        put(tmp_path, below)
    put(tmp_path, "big", ".SAFETENSORS")
    found = Catalogue([tmp_path]).find(typed, paths=False)
    assert unicodedata.normalize("NFC", found.below) == unicodedata.normalize("NFC", file)


def test_a_name_as_it_is_written_counts_before_other_spellings(tmp_path):
    for below in ("Ink", "INK", "v1", "v1.safetensors"):
        put(tmp_path, below)
    catalogue = Catalogue([tmp_path])
    assert catalogue.find("Ink").name == "Ink"
    assert catalogue.find("v1").name == "v1"
    for name in ("ink", "v1.safetensors"):
        with pytest.raises(Ambiguous):
            catalogue.find(name)
    assert {catalogue.tag(item) for item in catalogue.items} == {"Ink", "INK", "v1", "v1.safetensors.safetensors"}


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "/a\0b", "x" * 5000, "/" + "x" * 5000, "\0", "hf:a/b", ""])
def test_names_that_no_file_can_have_are_not_found(tmp_path, name):
    put(tmp_path, "ink")
    with pytest.raises(NotFound):
        Catalogue([tmp_path]).find(name)
    with pytest.raises(NotFound):
        Session(lora_folders=[tmp_path]).locate(name or "?")


def test_a_file_below_the_current_folder_is_found_where_paths_are_allowed(tmp_path, monkeypatch, make_lora):
    here = make_lora(tmp_path / "work" / "new.safetensors")
    inner = make_lora(tmp_path / "work" / "out" / "deep.safetensors")
    (tmp_path / "loras").mkdir()
    catalogue = Catalogue([tmp_path / "loras"])
    monkeypatch.chdir(tmp_path / "work")
    for name, path in (("new", here), ("new.safetensors", here), ("./new", here), ("out/deep", inner)):
        assert catalogue.find(name).path == path
        with pytest.raises(NotFound):
            catalogue.find(name, paths=False)


def test_networks_of_one_file_name_keep_their_own_hashes_in_the_recipe(tmp_path, make_lora):
    for seed, place in enumerate(("a/twin", "b/twin", "odd: 0123, name")):
        make_lora(tmp_path / f"{place}.safetensors", seed=seed)
    session = Session(lora_folders=[tmp_path])
    prompt = 'a cat <lora:a/twin:0.5> <lora:b/twin:0.5> <lora:"odd: 0123, name":0.1>'
    [picture] = session.generate(ImageRequest(prompt=prompt, base="nano", seed=1))
    catalogue = session.catalogue()
    hashes = {catalogue.called(item): catalogue.facts(item).hash[:12] for item in catalogue.items if tmp_path in item.path.parents}
    assert len(set(hashes.values())) == 3
    assert picture.recipe.lora_hashes == hashes
    assert Recipe.parse(str(picture.recipe)) == picture.recipe
    for name, digest in Recipe.parse(str(picture.recipe)).lora_hashes.items():
        assert catalogue.facts(catalogue.find(name)).hash.startswith(digest)
    assert [network.name for network in picture.report.networks] == ["a/twin", "b/twin", "odd: 0123, name"]


@given(st.dictionaries(names, st.from_regex("[0-9a-f]{12}", fullmatch=True), max_size=4))
def test_hashes_of_every_name_read_back(hashes):
    recipe = Recipe(prompt="a", steps=4, sampler="DDIM", model="tiny", lora_hashes=hashes)
    assert Recipe.parse(str(recipe)).lora_hashes == hashes


def test_list_gives_tags_that_work(tmp_path):
    """As the command prints them: `list --json`, then `generate`."""
    put(tmp_path, "a:b")
    entries = json.loads(_printed(["list", "--json", "--lora-folder", str(tmp_path)]))
    [tag] = [entry["tag"] for entry in entries if entry["path"].startswith(str(tmp_path))]
    assert tag == '"a:b"'
    assert Session(lora_folders=[tmp_path]).catalogue().find(parse(f"<lora:{tag}:1>").loras[0].name).name == "a:b"


def _printed(arguments):
    from typer.testing import CliRunner

    from loraloom.cli import app

    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files there")
def test_what_is_no_file_is_no_network(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    assert Catalogue([tmp_path]).items == ()
