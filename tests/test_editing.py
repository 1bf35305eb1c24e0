"""Laws of editing: what was not asked for stays to the last bit, and what is left of a network does what it did there."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraloom import Session, dialects
from loraloom.bases import NANO, SD1
from loraloom.converting import convert
from loraloom.editing import Change, edit
from loraloom.errors import BaseError, FileError, NothingApplied, NotSafetensors, SettingsError, WriteFailed
from loraloom.tensorfile import Header


@pytest.fixture
def ink(tmp_path, make_lora):
    return make_lora(tmp_path / "ink.safetensors", seed=1, metadata={"ss_output_name": "ink", "modelspec.trigger_phrase": "zvz"})


def data(path):
    return path.read_bytes()[Header.read(path).data_start :]


def test_metadata_changes_and_nothing_else(ink, tmp_path):
    before, tensors = Header.read(ink), data(ink)
    found = edit(ink, changes={"modelspec.title": "Ink", "ss_output_name": None, "modelspec.trigger_phrase": "zvz, flat"})
    after = Header.read(ink)
    assert found.path == ink
    assert set(found.changes) == {
        Change("modelspec.title", None, "Ink"),
        Change("ss_output_name", "ink", None),
        Change("modelspec.trigger_phrase", "zvz", "zvz, flat"),
    }
    assert dict(after.metadata) == {
        key: value for key, value in before.metadata.items() if key != "ss_output_name"
    } | {"modelspec.title": "Ink", "modelspec.trigger_phrase": "zvz, flat"}  # fmt: skip
    assert (data(ink), list(after.entries.items())) == (tensors, list(before.entries.items()))
    assert after.metadata["sshs_model_hash"] == after.content_hash()
    assert [path.name for path in tmp_path.iterdir()] == ["ink.safetensors"]


def test_a_second_name_leaves_the_file_as_it_is(ink, tmp_path):
    before = ink.read_bytes()
    found = edit(ink, tmp_path / "new" / "y.safetensors", changes={"modelspec.title": "Ink"})
    assert ink.read_bytes() == before
    assert Header.read(found.path).metadata["modelspec.title"] == "Ink"
    with pytest.raises(WriteFailed, match="is there already"):
        edit(ink, found.path, changes={"modelspec.title": "Other"})
    edit(ink, found.path, changes={"modelspec.title": "Other"}, overwrite=True)
    assert Header.read(found.path).metadata["modelspec.title"] == "Other"


def test_what_is_so_already_is_not_written(ink):
    stamp = ink.stat().st_mtime_ns
    found = edit(ink, changes={"ss_output_name": "ink"})
    assert (found.written, found.changes, ink.stat().st_mtime_ns) == (False, (), stamp)


@pytest.mark.parametrize("dialect", ["kohya", "peft", "lycoris", "comfyui"])
@pytest.mark.parametrize("only", [("te",), ("unet",), ("mid", "text_encoder"), ("IN01", "out")], ids="+".join)
def test_what_stays_is_the_same_change_under_the_same_names(ink, tmp_path, dialect, only):
    source = convert(ink, tmp_path / "x.safetensors", dialect=dialect).path
    before, whole = load_file(source), dialects.read(source)
    found = edit(source, tmp_path / "y.safetensors", only=only)
    after, part = load_file(found.path), dialects.read(found.path)
    assert all(torch.equal(tensor, before[key]) and tensor.dtype == before[key].dtype for key, tensor in after.items())
    assert len(after) == found.tensors[1] < len(before) == found.tensors[0]
    assert sum(found.kept.values()) == len(part.adapters) < len(whole.adapters)
    assert sum(found.kept.values()) + sum(found.left_out.values()) == len(whole.adapters)
    for target, adapter in part.adapters.items():
        weight = torch.zeros(NANO.by_target[target].shape)
        assert torch.equal(adapter.delta(weight), whole.adapters[target].delta(weight))
    header = Header.read(found.path)
    assert header.metadata["sshs_model_hash"] == header.content_hash() != whole.metadata["sshs_model_hash"]
    assert json.loads(header.metadata["loraloom.pruned_from"])["sshs_model_hash"] == whole.metadata["sshs_model_hash"]
    assert str(tmp_path) not in json.dumps(dict(header.metadata))


def test_a_part_that_is_all_of_it_changes_nothing(ink):
    before = ink.read_bytes()
    found = edit(ink, only=("te", "unet"))
    assert (found.written, found.left_out, ink.read_bytes()) == (False, {}, before)


def test_what_belongs_to_no_module_stays_and_is_told(ink, tmp_path):
    save_file(
        load_file(ink) | {"strange": torch.ones(2)},
        tmp_path / "x.safetensors",
        {"sshs_legacy_hash": "12345678", "modelspec.hash_sha256": "0x0"},
    )
    found = edit(tmp_path / "x.safetensors", only=("te",), base=NANO)
    assert "strange" in load_file(found.path)
    assert found.unknown == ("strange: loraloom nano 1 has no module of this name",)
    metadata = Header.read(found.path).metadata
    assert "sshs_legacy_hash" not in metadata
    assert metadata["modelspec.hash_sha256"] == f"0x{Header.read(found.path).content_hash()}"


def test_words_go_with_their_text_encoder(ink, tmp_path):
    words = {"bundle_emb.zvz.string_to_param.*": torch.ones(1, NANO.text_widths[0])}
    save_file(load_file(ink) | words, tmp_path / "x.safetensors", dict(Header.read(ink).metadata))
    assert edit(tmp_path / "x.safetensors", tmp_path / "te.safetensors", only=("te",)).unknown == ()
    assert dialects.read(tmp_path / "te.safetensors").embeddings.keys() == {"zvz"}
    edit(tmp_path / "x.safetensors", only=("unet",))
    assert not dialects.read(tmp_path / "x.safetensors").embeddings


def test_a_part_still_says_its_family(tmp_path, make_lora):
    """A text encoder 768 wide alone could be SDXL's or Flux's."""
    source = make_lora(tmp_path / "x.safetensors", SD1, rank=1)
    save_file(load_file(source), source)
    found = edit(source, only=("te",))
    assert dialects.read(found.path).base == "sd1"
    assert dialects.detect(Header.read(source).shapes, Header.read(source).metadata).title == "SD 1.x"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, SettingsError, "nothing is to be changed"),
        ({"changes": {"modelspec.titel": "x"}}, SettingsError, 'did you mean "title"'),
        ({"changes": {"ss_output_nam": None}}, SettingsError, 'did you mean "ss_output_name"'),
        ({"only": ("tee",)}, SettingsError, 'did you mean "te"'),
        ({"only": ("te2",)}, NothingApplied, "nothing of it is in te2, so nothing would stay; it has"),
        ({"only": ("conv",)}, SettingsError, "no part of loraloom nano 1"),
    ],
)
def test_mistakes_change_nothing(ink, options, error, words):
    before = ink.read_bytes()
    with pytest.raises(error, match=words):
        edit(ink, **options)
    assert ink.read_bytes() == before


def test_a_part_that_the_file_has_not_is_told(ink):
    assert "te2: the file has nothing there" in edit(ink, only=("te2", "unet")).warnings


def test_a_file_of_no_known_family_keeps_its_metadata_editable(tmp_path):
    path = tmp_path / "flux.safetensors"
    save_file({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(2, 3072)}, path)
    edit(path, changes={"modelspec.title": "Flux"})
    assert Header.read(path).metadata == {"modelspec.title": "Flux"}
    with pytest.raises(BaseError, match=r"was made for Flux\.1 .*drawn with a base of Flux\.1"):
        edit(path, only=("te",))


def test_metadata_that_says_another_family_is_told(ink):
    warnings = edit(ink, changes={"ss_base_model_version": "sdxl_base_v1-0", "modelspec.architecture": None}).warnings
    assert any("SDXL" in warning for warning in warnings)


def test_a_link_is_not_followed_in_silence(ink, tmp_path):
    link = tmp_path / "link.safetensors"
    link.symlink_to(ink)
    before = ink.read_bytes()
    with pytest.raises(WriteFailed, match=r"is a link to .*ink\.safetensors; name that file"):
        edit(link, changes={"modelspec.title": "x"})
    assert ink.read_bytes() == before
    assert edit(link, tmp_path / "y.safetensors", changes={"modelspec.title": "x"}).written


def test_folders_and_pickles_are_refused_with_what_to_do(ink, tmp_path):
    convert(ink, tmp_path / "folder", dialect="peft-folder")
    for path in (tmp_path / "folder", tmp_path / "folder" / "unet" / "adapter_model.safetensors"):
        with pytest.raises(FileError, match=r"adapter_config\.json.*loraloom convert"):
            edit(path, changes={"modelspec.title": "x"})
    torch.save({}, tmp_path / "x.pt")
    with pytest.raises(NotSafetensors, match="loraloom convert"):
        edit(tmp_path / "x.pt", changes={"modelspec.title": "x"})


@pytest.mark.usefixtures("ink")
def test_the_session_knows_what_is_beside_a_file_and_what_is_not_ours_to_change(tmp_path):
    session = Session(lora_folders=[tmp_path])
    assert session.edit("ink", changes={"modelspec.trigger_phrase": "abc"}).warnings == ()
    catalogue = session.catalogue()
    catalogue.rescan()
    assert catalogue.facts(catalogue.find("ink")).triggers == ("abc",)
    (tmp_path / "ink.json").write_text('{"activation text": "flat"}')
    (warning,) = session.edit("ink", changes={"modelspec.trigger_phrase": "def"}).warnings
    assert "trigger words of their own (flat)" in warning
    with pytest.raises(WriteFailed, match="came with loraloom"):
        session.edit("delft", changes={"modelspec.title": "mine"})
