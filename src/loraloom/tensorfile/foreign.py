"""What a file is that is no safetensors file, by its first bytes, and what to do about it."""

import re

import msgspec

HEAD = 1024  # bytes that are looked at
_PICKLES = re.compile(rb"\x80[\x02-\x05]")  # a protocol's number follows the mark
_LFS = "this is a Git LFS pointer in place of the file; run `git lfs pull` in its folder, or download the file itself"
_ARCHIVE = "this is {}, not a safetensors file; unpack it and take the .safetensors file out"
_AGAIN = "sign in where it is offered if that is asked for, and download the file itself"
_KINDS = (
    (b"version https://git-lfs", _LFS),
    (b"GGUF", "this is a GGUF file, which is made for other programs; get the network as .safetensors"),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE.format("a 7z archive")),
    (b"Rar!", _ARCHIVE.format("a RAR archive")),
    (b"\x1f\x8b", _ARCHIVE.format("a gzip archive")),
    (b"\xfd7zXZ", _ARCHIVE.format("an xz archive")),
    (b"BZh", _ARCHIVE.format("a bzip2 archive")),
    (b"\x28\xb5\x2f\xfd", _ARCHIVE.format("a Zstandard archive")),
    (b"\x89PNG", "this is a PNG picture, not a network; download the file itself"),
    (b"\xff\xd8\xff", "this is a JPEG picture, not a network; download the file itself"),
    (b"RIFF", "this is a picture or a film, not a network; download the file itself"),
    (b"\x89HDF", "this is an HDF5 file (Keras), which is made for other programs; get the network as .safetensors"),
)
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12:\x1aB]")  # ir_version, then the producer, the graph or an opset
_ONNX_SAID = "this is an ONNX model, which is made for other programs; get the network as .safetensors"


def is_pickled(head: bytes) -> bool:
    """Whether these are the first bytes of what torch saves: a zip that begins with its `data.pkl`, or a pickle of before.

    A zip that is cut short counts as one.
    """
    if head.startswith(b"PK"):
        length = int.from_bytes(head[26:28], "little")  # of the name of the first file inside
        first = head[30 : 30 + length]
        return not length or len(first) < length or first.endswith((b"data.pkl", b"/version", b"byteorder"))
    return _PICKLES.match(head) is not None and head[8:9] != b"{"  # which a safetensors file with a header of 2 to 5 × 256 + 128 bytes has


def instead(head: bytes) -> str:
    """What a file that begins with `head` is instead of safetensors, and the next step."""
    if is_pickled(head):
        return (
            "this is a pickle (.pt/.ckpt), which can run code when it is opened; only safetensors files are read: `loraloom convert` makes "
            "one of it, in a process of its own"
        )
    if head.startswith(b"PK"):
        return _ARCHIVE.format("a ZIP archive")
    if not head:
        return "the file is empty; download it again"
    if not head.strip(b"\0"):
        return "it begins with nothing but zeros: a download that has not ended, or was broken off; wait for it, or download it again"
    known = next((sentence for begins, sentence in _KINDS if head.startswith(begins)), None)
    if _ONNX.match(head):
        known = _ONNX_SAID
    return known or _text(head) or f"not a safetensors file (it begins with {head[:8]!r}); download it again or look at what it is"


def _text(head: bytes) -> str:
    """For a page or an answer of a server that was saved in place of the file, or any other text."""
    words = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if words.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]{1,80})", words, re.IGNORECASE) or re.search(r"<Message>([^<]{1,80})", words)
        return f"this is a web page{_said(title[1] if title else '')}, not a safetensors file; {_AGAIN}"
    if words.startswith(("{", "[")):
        return f"this is an answer of a server in JSON{_said(_message(words))}, not a safetensors file; {_AGAIN}"
    if len(head) > 3 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"this is a text{_said(words)}, not a safetensors file; {_AGAIN}"
    return ""


def _message(text: str) -> str:
    """What an answer says went wrong."""
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return ""
    found = [str(content[key]) for key in ("message", "error", "detail") if isinstance(content, dict) and content.get(key)]
    return found[0] if found else ""


def _said(words: str) -> str:
    line = " ".join(words.split())
    return f' ("{line[:80]}{"..." if len(line) > 80 else ""}")' if line else ""
