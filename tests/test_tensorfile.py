"""safetensors files: nothing hostile gets in, nothing is lost on the way out."""

import errno
import hashlib
import itertools
import json
import os
import pickle
import struct
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from loraloom import tensorfile
from loraloom.errors import BadTensor, FileError, LimitExceeded, LoraError, NotSafetensors, WriteFailed
from loraloom.peek import peek
from loraloom.tensorfile import MAX_HEADER, MAX_METADATA, MAX_NAME, MAX_TENSORS, Header, is_pickle, open_tensors, write, writing
from work import work_of

ONE = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def raw(path: Path, header: object, data: bytes = b"\0" * 16, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def refused(path: Path, error: type[LoraError]) -> str:
    """Header.read raises exactly this, in fewer steps than a second has on a slow computer, and in 64 MB; the text."""

    def read() -> pytest.ExceptionInfo[LoraError]:
        with pytest.raises(error) as caught:
            Header.read(path)
        return caught

    work, caught = work_of(read)
    assert work.calls < 2 * MAX_TENSORS
    assert work.peak < 64 * 2**20
    assert type(caught.value) is error
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("[]", NotSafetensors),
        ("{", NotSafetensors),
        ('{"a": 1}', NotSafetensors),
        ('{"a": null}', NotSafetensors),
        ('{"a": {}}', NotSafetensors),
        ({"a": ONE | {"dtype": "F33"}}, BadTensor),
        ({"a": ONE | {"dtype": 32}}, NotSafetensors),
        ({"a": ONE | {"shape": [-2, -2]}}, BadTensor),
        ({"a": ONE | {"shape": [2, 3]}}, BadTensor),
        ({"a": ONE | {"shape": [2.5, 2]}}, NotSafetensors),
        ({"a": ONE | {"shape": "22"}}, NotSafetensors),
        ({"a": ONE | {"shape": [1] * 9}}, BadTensor),
        ({"a": ONE | {"shape": [2**40, 2**40]}}, BadTensor),
        ({"a": ONE | {"shape": [10**400]}}, BadTensor),
        ({"a": ONE | {"data_offsets": [16, 0]}}, NotSafetensors),
        ({"a": ONE | {"data_offsets": [0, 2**70]}}, BadTensor),
        ({"a": ONE | {"data_offsets": [-8, 8]}}, NotSafetensors),
        ({"a": ONE | {"data_offsets": [0]}}, NotSafetensors),
        ({"a": ONE | {"shape": [2], "data_offsets": [8, 16]}}, NotSafetensors),  # a hole at the beginning
        ({"a": ONE, "b": ONE}, NotSafetensors),  # on top of one another
        ({"a": ONE, "b": ONE | {"shape": [2], "data_offsets": [8, 16]}}, NotSafetensors),
        ({}, NotSafetensors),  # 16 bytes that nobody owns
        ({"x" * (MAX_NAME + 1): ONE}, LimitExceeded),
        (f'{{"a": {json.dumps(ONE)}, "a": {json.dumps(ONE | {"shape": [4]})}}}', NotSafetensors),  # twice the same name
        (f'{{"__metadata__": {{}}, "a": {json.dumps(ONE)}, "__metadata__": {{"b": "c"}}}}', NotSafetensors),
        ('{"a":' * 40_000 + "1" + "}" * 40_000, NotSafetensors),
        ('{"a":' + "[" * 1_000_000 + "]" * 1_000_000 + "}", NotSafetensors),
        ('{"__metadata__": {"a": ' + "[" * 1_000_000 + "}}", NotSafetensors),
        (b'{"\xff\xfe": 1}', NotSafetensors),
        ('{"\\ud800": 1}', NotSafetensors),
    ],
    ids=lambda value: str(value)[:60] if not isinstance(value, type) else value.__name__,
)
def test_a_header_that_lies_is_refused(tmp_path, header, error):
    path = raw(tmp_path / "x.safetensors", header)
    with pytest.raises(FileError) as caught:
        Header.read(path)
    refused(path, type(caught.value))
    assert type(caught.value) in (error, BadTensor)  # which of the lies is seen first does not matter


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", NotSafetensors, "empty"),
        (b"\0", NotSafetensors, "nothing but zeros"),
        (b"\0" * 9, NotSafetensors, "nothing but zeros"),
        (b"hello, this is a text file\n" * 9, NotSafetensors, "this is a text"),
        (b"Entry not found", NotSafetensors, 'this is a text ("Entry not found")'),
        (b"<!DOCTYPE html><html>", NotSafetensors, "web page"),
        (b"\n\n  <html><title>Log in</title>not found", NotSafetensors, 'web page ("Log in")'),
        (b"<?xml version='1.0'?><Error><Message>Access Denied</Message></Error>", NotSafetensors, '"Access Denied"'),
        (b'{"error":"Unauthorized","message":"log in first"}', NotSafetensors, 'answer of a server in JSON ("log in first")'),
        (b'[{"a"', NotSafetensors, "answer of a server in JSON"),
        (pickle.dumps({"state_dict": [1] * 99}), NotSafetensors, "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid", NotSafetensors, "git lfs pull"),
        (b"GGUF\3\0\0\0", NotSafetensors, "GGUF"),
        (b"\x08\x07\x12\x07pytorch", NotSafetensors, "ONNX"),
        (b"PK\3\4" + b"\0" * 22 + b"\x10\0\0\0lora.safetensors", NotSafetensors, "ZIP archive"),
        (b"7z\xbc\xaf\x27\x1c", NotSafetensors, "7z archive"),
        (b"\x1f\x8b\x08", NotSafetensors, "gzip archive"),
        (b"Rar!\x1a\7", NotSafetensors, "RAR archive"),
        (b"\x89PNG\r\n\x1a\n", NotSafetensors, "PNG picture"),
        (b"\xde\xad\xbe\xef" * 9, NotSafetensors, "not a safetensors file"),
        (struct.pack("<Q", MAX_HEADER + 1) + b"{" * 99, LimitExceeded, "header claims"),
        (struct.pack("<Q", 2**64 - 1) + b"{" * 99, LimitExceeded, "header claims"),
        (struct.pack("<Q", 5000) + b"{}", NotSafetensors, "cut short"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_safetensors_file_is_told_so(tmp_path, content, error, words):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert words in refused(path, error)


def test_a_zip_is_called_a_pickle(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    assert "pickle" in refused(tmp_path / "x.safetensors", NotSafetensors)


def test_what_cannot_be_opened_is_a_file_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in (".", "missing", "pipe", "loop", "n" * 300, "a\0b", "missing/x"):
        with pytest.raises(FileError):  # soon: nobody ever writes into the pipe
            Header.read(tmp_path / name)
    assert "device" in refused(Path("/dev/zero"), FileError)


def test_too_many_tensors_are_refused_before_they_are_taken_apart(tmp_path):
    entry = '"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    path = raw(tmp_path / "x.safetensors", "{" + ",".join(entry % index for index in range(MAX_TENSORS + 1)) + "}", b"")
    assert "50,001 tensors" in refused(path, LimitExceeded)
    path = raw(tmp_path / "x.safetensors", "{" + ",".join(entry % index for index in range(400_000)) + "}", b"")
    refused(path, LimitExceeded)


def test_metadata_beyond_any_use_is_refused(tmp_path):
    refused(raw(tmp_path / "x.safetensors", {"__metadata__": {"a": "b" * MAX_METADATA}}, b""), LimitExceeded)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = write(tmp_path / "x.safetensors", {"a": torch.ones(3), "b": torch.ones(2, 2).half()}, {"k": "v"})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(NotSafetensors):
            Header.read(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(NotSafetensors):
        Header.read(path)


def test_a_header_of_every_length_is_read(tmp_path):
    """Its lowest byte may be that of a pickle (0x80), the lowest two those of a zip (PK)."""
    path = tmp_path / "x.safetensors"
    for length in (*range(0, 300), 0x4B50 - 120 + 60, 0x4B50 - 120 + 65):
        save_file({"a": torch.ones(2)}, path, metadata={"k": "x" * length})
        assert Header.read(path).metadata == {"k": "x" * length}
    text = json.dumps({"a": ONE})
    assert Header.read(raw(path, text.ljust(0x4B50))).shapes == {"a": (2, 2)}


def test_the_header_says_what_the_library_says(tmp_path):
    tensors = {
        "a": torch.ones(2, 3),
        "b.c": torch.tensor(3),
        "é": torch.zeros(0, 4),
        "d": torch.ones(5).bfloat16(),
        "f": torch.ones(2).to(torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"ß": '{"data_offsets": "\\n"}'})
    header = Header.read(tmp_path / "x.safetensors")
    assert header.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert header.metadata == {"ß": '{"data_offsets": "\\n"}'}
    with open_tensors(header) as found:
        assert set(found) == set(tensors)
        assert all(torch.equal(found[name].float(), tensor.float()) for name, tensor in tensors.items())


def test_a_file_that_changes_between_header_and_tensors_is_refused(tmp_path):
    path = write(tmp_path / "x.safetensors", {"a": torch.ones(3)}, {})
    header = Header.read(path)
    write(path, {"a": torch.zeros(3)}, {})
    with pytest.raises(FileError, match="changed while"), open_tensors(header):
        pass


# Writing.

TENSORS = {
    "b": torch.arange(6.0).reshape(2, 3),
    "a": torch.ones(3).half(),
    "t": torch.arange(6.0).reshape(2, 3).T,
    "s": torch.tensor(4.0),
    "e": torch.zeros(0, 2),
}


def test_what_is_written_is_read_by_the_library_too(tmp_path):
    path = write(tmp_path / "x.safetensors", TENSORS, {"k": "v", "ü": "\n"})
    loaded = load_file(path)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in TENSORS.items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"k": "v", "ü": "\n"}
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "like any new file").touch()
    assert path.stat().st_mode == (tmp_path / "like any new file").stat().st_mode


def test_equal_content_gives_equal_bytes(tmp_path):
    first = write(tmp_path / "1", TENSORS, {"a": "1", "b": "2"}).read_bytes()
    second = write(tmp_path / "2", dict(reversed(TENSORS.items())), {"b": "2", "a": "1"}).read_bytes()
    assert first == second


def test_the_content_hash_is_of_the_tensors_alone(tmp_path):
    for number, metadata in enumerate(({}, {"k": "v" * 999})):
        path = write(tmp_path / f"{number}", TENSORS, metadata)
        content = path.read_bytes()
        expected = hashlib.sha256(content[8 + struct.unpack("<Q", content[:8])[0] :]).hexdigest()
        assert Header.read(path).content_hash() == expected == tensorfile.content_hash(TENSORS)


@pytest.mark.parametrize(
    ("tensors", "metadata"), [({"a": torch.ones(2, dtype=torch.complex64)}, {}), ({"a": torch.ones(2)}, {"k": "\ud800"})]
)
def test_what_cannot_be_stored_is_refused_and_leaves_the_old_file(tmp_path, tensors, metadata):
    path = write(tmp_path / "x", TENSORS, {})
    before = path.read_bytes()
    with pytest.raises(BadTensor):
        write(path, tensors, metadata)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_can_be_written(tmp_path):
    write(tmp_path / ("ü" * 121 + ".safetensors"), TENSORS, {})


def test_a_missing_folder_is_told(tmp_path):
    for place in (tmp_path / "no" / "x", write(tmp_path / "file", TENSORS, {}) / "x"):
        with pytest.raises(WriteFailed, match="Nothing that was there has changed"):
            write(place, TENSORS, {})


def test_a_reader_that_polls_never_sees_half_a_file(tmp_path):
    path, stop, seen = tmp_path / "x.safetensors", threading.Event(), set()
    versions = [{"a": torch.full((50_000,), float(number))} for number in range(20)]
    write(path, versions[0], {})

    def poll() -> None:
        while not stop.is_set():
            loaded = load_file(path)["a"]
            seen.add(float(loaded[0]) if bool((loaded == loaded[0]).all()) else "half")

    reader = threading.Thread(target=poll)
    reader.start()
    for version in itertools.chain(versions, versions):
        write(path, version, {})
    stop.set()
    reader.join()
    assert "half" not in seen
    assert len(seen) > 1


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KB, where the system lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_old_file_and_says_so(small_disk):
    path = write(small_disk / "x.safetensors", {"a": torch.ones(1000)}, {})
    before = path.read_bytes()
    with pytest.raises(WriteFailed, match=r"No space left.*free some space"):
        write(path, {"a": torch.ones(100_000)}, {})
    assert path.read_bytes() == before
    assert list(small_disk.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_disk_that_says_no_leaves_the_old_file(tmp_path, monkeypatch, call, code):
    path = write(tmp_path / "x", TENSORS, {})
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(WriteFailed):
        write(path, {"a": torch.zeros(9)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_stores_something_else_is_found_out(tmp_path, monkeypatch):
    path = write(tmp_path / "x", TENSORS, {})
    before = path.read_bytes()
    real = writing._write_all
    monkeypatch.setattr(writing, "_write_all", lambda *arguments: real(*arguments)[::-1])
    with pytest.raises(WriteFailed, match="read back differs"):
        write(path, {"a": torch.zeros(9)}, {})
    assert path.read_bytes() == before


def test_an_interrupt_leaves_no_partial_file(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_verify", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x", TENSORS, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "texts", "mended"),
    [
        (
            {"rank": 4, "lr": 1e-4, "x": None, "y": [1, {}], "b": True, "t": "as it is"},
            {"rank": "4", "lr": "0.0001", "x": "null", "y": "[1,{}]", "b": "true", "t": "as it is"},
            ("rank", "lr", "x", "y", "b"),
        ),
        ({}, {}, ()),
        (None, {}, ()),
        ([1], {}, ("all of it",)),
        ("text", {}, ("all of it",)),
    ],
)
def test_metadata_that_is_no_text_is_read_and_told(tmp_path, metadata, texts, mended):
    """Nothing of it is needed to read the tensors."""
    path = raw(tmp_path / "x.safetensors", {"__metadata__": metadata, "a": ONE})
    header = Header.read(path)
    assert (header.metadata, header.mended) == (texts, mended)
    assert peek(path).metadata == texts


def test_a_header_whose_length_begins_like_a_pickle_is_none(tmp_path):
    """Lengths of 640, 896, 1152 and 1408 bytes are 0x80 with a protocol's number."""
    for length in (640, 896, 1152, 1408):
        path = raw(tmp_path / "x.safetensors", json.dumps({"a": ONE}).ljust(length))
        assert not is_pickle(path)
        assert set(Header.read(path).entries) == {"a"}
