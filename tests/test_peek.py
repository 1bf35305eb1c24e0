"""Laws of a quick look: the metadata is what the whole header says, and layouts are equal where entries are."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.errors import FileError, LimitExceeded, NotSafetensors
from loraloom.peek import peek
from loraloom.tensorfile import MAX_METADATA, Header

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\{}:, '), max_size=30)


def write(path, header, size=0):
    raw = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * size)
    return path


def entry(*shape, start=0):
    stop = start + 4 * (shape[0] if shape else 1)
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, stop]}


@given(metadata=st.dictionaries(TEXT, TEXT, max_size=6), first=st.booleans(), spaced=st.booleans())
def test_metadata_is_what_the_whole_header_says(tmp_path_factory, metadata, first, spaced):
    fields = {"__metadata__": metadata, "a": entry(2)} if first else {"a": entry(2), "__metadata__": metadata}
    raw = json.dumps(fields, ensure_ascii=False, separators=None if spaced else (",", ":")).encode()
    path = write(tmp_path_factory.mktemp("peek") / "a.safetensors", raw, 8)
    assert peek(path).metadata == peek(path, layout=True).metadata == Header.read(path).metadata == metadata


@pytest.mark.parametrize("value", ["x" * 40_000, '"}' * 9_000, "\\" * 20_000, "{" * 40_000])
def test_metadata_that_is_longer_than_the_first_look_is_read_to_its_end(tmp_path, value):
    path = write(tmp_path / "a.safetensors", {"__metadata__": {"k": value}, "a": entry(2)}, 8)
    assert peek(path).metadata == {"k": value}


def test_equal_entries_are_one_layout_and_others_are_not(tmp_path):
    def layout(name, header, size):
        return peek(write(tmp_path / name, header, size), layout=True).layout

    one = layout("a", {"__metadata__": {"k": "1"}, "a": entry(2)}, 8)
    assert one == layout("b", {"__metadata__": {"other": "a long text"}, "a": entry(2)}, 8)
    for header, size in (({"b": entry(2)}, 8), ({"a": entry(3)}, 12), ({"a": entry(2), "b": entry(2, start=8)}, 16), ({"a": entry(2)}, 12)):
        assert layout("c", {"__metadata__": {"k": "1"}, **header}, size) != one
    assert peek(tmp_path / "a").layout == b""


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", NotSafetensors, "the file is empty"),
        (b"PK\3\4" + b"\0" * 40, NotSafetensors, "pickle"),
        (struct.pack("<Q", 2**40) + b"{}", LimitExceeded, "the header claims"),
        (struct.pack("<Q", 500) + b"{}", NotSafetensors, "cut short"),
        (struct.pack("<Q", 27) + b'{"__metadata__":{"a":1,}, {}', NotSafetensors, "not what safetensors defines"),
        (struct.pack("<Q", 28) + b'{"__metadata__":{"a":"b"},{{{', None, ""),  # entries are for Header.read
        (struct.pack("<Q", 12) + b'{"a":\xff\xff\xff\xff\xff\xff}', NotSafetensors, "not what safetensors defines"),
    ],
)
def test_what_is_no_header_says_so(tmp_path, content, kind, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    if kind is None:
        assert peek(path).metadata == {"a": "b"}
        return
    with pytest.raises(kind, match=message):
        peek(path)


def test_limits_hold_before_anything_is_built(tmp_path):
    path = write(tmp_path / "a.safetensors", {"__metadata__": {"k": "x" * MAX_METADATA}})
    with pytest.raises(LimitExceeded, match="bytes of metadata"):
        peek(path)
    with pytest.raises(FileError, match="cannot be read"):
        peek(tmp_path / "nowhere.safetensors")
    with pytest.raises(FileError, match="folder"):
        peek(tmp_path)
