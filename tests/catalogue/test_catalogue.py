"""Laws of names: every spelling finds its file, two files of a name are listed, none comes with the nearest names."""

import pytest

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
        ("INK", 'did you mean "ink"?'),
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
