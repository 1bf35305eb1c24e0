"""Laws of a rewritten file: tensors keep every bit, the rest is what was asked for, and nothing is lost on the way."""

import errno
import hashlib
import os

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from loraloom.errors import BadTensor, FileError, LimitExceeded, WriteFailed
from loraloom.rewrite import content_hash, rewrite
from loraloom.tensorfile import MAX_METADATA, Header

TENSORS = {
    "wide": torch.arange(6.0).reshape(2, 3),
    "half": torch.randn(3, generator=torch.Generator().manual_seed(0)).half(),
    "nan": torch.tensor([float("nan"), -0.0]).bfloat16(),
    "eight": torch.ones(5).to(torch.float8_e4m3fn),
    "number": torch.tensor(4.0),
    "empty": torch.zeros(0, 2),
    "large": torch.randint(0, 255, (3_000_001,), dtype=torch.uint8),  # more than the blocks that are copied, and no multiple of them
}


@pytest.fixture
def header(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors", {"b": "1", "a": "2"})
    return Header.read(tmp_path / "x.safetensors")


def same_bits(path, names):
    found = load_file(path)
    assert found.keys() == set(names)
    for name in names:
        assert found[name].dtype == TENSORS[name].dtype
        assert found[name].view(torch.uint8).equal(TENSORS[name].view(torch.uint8)) if TENSORS[name].ndim else found[name] == TENSORS[name]


@pytest.mark.parametrize("place", ["x", "y"])
def test_other_metadata_leaves_every_byte_of_the_tensors(header, tmp_path, place):
    data = header.path.read_bytes()[header.data_start :]
    path = rewrite(header, tmp_path / f"{place}.safetensors", {"z": "long" * 999, "a": ""})
    found = Header.read(path)
    assert path.read_bytes()[found.data_start :] == data
    assert list(found.entries.items()) == list(header.entries.items())
    assert list(found.metadata.items()) == [("z", "long" * 999), ("a", "")]
    assert found.content_hash() == hashlib.sha256(data).hexdigest()
    assert found.data_start % 8 == 0
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"z": "long" * 999, "a": ""}
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted({"x.safetensors", path.name})


@pytest.mark.parametrize("names", [["wide"], ["half", "large", "number"], ["nan", "eight"], ["empty"], [], list(TENSORS)])
def test_a_part_has_the_bits_of_its_tensors_and_the_hash_is_told_before(header, tmp_path, names):
    path = rewrite(header, tmp_path / "y.safetensors", {}, names)
    same_bits(path, names)
    found = Header.read(path)
    assert list(found.entries) == [name for name in header.entries if name in names]
    assert found.content_hash() == content_hash(header, names)
    assert found.metadata == {}


def test_every_tensor_begins_at_a_multiple_of_its_elements(tmp_path):
    """A file whose order relied on what is left out."""
    from loraloom.tensorfile import Entry, encode_header

    entries = {"a": Entry("U8", (2,), 0, 2), "b": Entry("U8", (2,), 2, 4), "c": Entry("F32", (1,), 4, 8)}
    (tmp_path / "x").write_bytes(encode_header(tmp_path, entries, {}) + b"\1\2\3\4" + b"\0\0\x80\x3f")
    path = rewrite(Header.read(tmp_path / "x"), tmp_path / "y", {}, ["b", "c"])
    assert [(name, entry.start) for name, entry in Header.read(path).entries.items()] == [("b", 4), ("c", 0)]
    assert (load_file(path)["c"].item(), load_file(path)["b"].tolist()) == (1.0, [3, 4])


def test_permissions_stay(header):
    header.path.chmod(0o640)
    rewrite(header, header.path, {})
    assert header.path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_changed_since_is_not_written_over(header):
    save_file({"a": torch.ones(2)}, header.path)
    before = header.path.read_bytes()
    with pytest.raises((FileError, WriteFailed), match=r"changed while|cut short"):
        rewrite(header, header.path, {})
    assert header.path.read_bytes() == before


@pytest.mark.parametrize(
    ("metadata", "error", "words"),
    [
        ({"k": "\ud800"}, BadTensor, "half a character"),
        ({"k": "x" * (MAX_METADATA + 1)}, LimitExceeded, "bytes of metadata"),
    ],
)
def test_metadata_that_nobody_could_read_is_refused(header, metadata, error, words):
    before = header.path.read_bytes()
    with pytest.raises(error, match=words):
        rewrite(header, header.path, metadata)
    assert header.path.read_bytes() == before


@pytest.mark.parametrize("fault", ["full", "wrong bytes"])
def test_a_disk_that_fails_leaves_the_old_file(header, tmp_path, monkeypatch, fault):
    before = header.path.read_bytes()

    def fail(handle):
        if fault == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.pwrite(handle, b"\7", os.fstat(handle).st_size - 1)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteFailed, match="Nothing that was there has changed"):
        rewrite(header, header.path, {"a": "b"})
    assert header.path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [header.path]
