"""The one door to the terminal: whatever a command prints goes through here, so that no stranger's text steers what shows it.

File names, metadata, notes beside files, keys and prompts are strangers' text, and so is every message that repeats them. Control
characters move the cursor, set the title or the clipboard (OSC), hide text or turn it around (Unicode TR 36 and UTS 55, "bidi").
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import TextIOBase
from types import TracebackType
from typing import Any, TextIO

# C0 but tab and line feed, DEL and C1; marks that turn text around, that are invisible or end lines; halves of characters, which
# Python makes of bytes that are no text. Joiners stay: names in Persian and Hindi, and emoji, need them.
_STEERING = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_BAR = re.compile(r"\r?(?:\x1b\[A)*")  # how the progress bars of other packages (tqdm) begin what they write


def clean(text: str) -> str:
    """The text with � for every character that steers a terminal or cannot be written; line feeds and tabs stay."""
    return text if text.isascii() and text.isprintable() else _STEERING.sub("�", text.replace("\r\n", "\n"))


def line(text: object) -> str:
    """A name or value as one line: `clean`, and � for line feeds too."""
    return clean(str(text)).replace("\n", "�").replace("\t", " ")


def out(message: str = "") -> None:
    """To stdout: what was asked for."""
    print(clean(message), flush=True)


def err(message: str) -> None:
    """To stderr: what is said about it. Lines after the first are indented, so that none of them passes for a message of its own."""
    print(re.sub(r"\n(?! )", "\n  ", clean(message)), file=sys.stderr, flush=True)


def out_json(document: Any) -> None:
    """One JSON document to stdout, in ASCII: numbers that JSON lacks are null, halves of characters �."""
    print(as_json(document), flush=True)


def as_json(document: Any) -> str:
    return json.dumps(_plain(document), allow_nan=False, indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # False for NaN
    if value is None or isinstance(value, bool | int):
        return value
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def stderr() -> TextIO:
    """stderr itself, for rich, which needs a terminal for its bars and cleans its text on its own."""
    return sys.stderr.stream if isinstance(sys.stderr, _Guarded) else sys.stderr


class _Guarded(TextIOBase):
    """stderr for everybody who does not know that text may be a stranger's: warnings, log lines, tracebacks, other packages.

    It calls itself no terminal, so that nobody colours what is cleaned afterwards.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    def write(self, text: str) -> int:
        begins = _BAR.match(text).end()  # type: ignore[union-attr]  # it matches nothing at least
        self.stream.write(text[:begins] + clean(text[begins:]))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()


@contextmanager
def guarded() -> Iterator[None]:
    """Within, nothing that anybody writes to stderr steers the terminal, and no character that an output cannot encode is an error."""
    before, errors = sys.stderr, [(stream, stream.errors) for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    for stream, _ in errors:
        stream.reconfigure(errors="replace")
    sys.stderr = _Guarded(before)
    try:
        yield
    finally:
        sys.stderr = before
        sys.excepthook = partial(_excepthook, before)  # typer has set its own meanwhile
        for stream, strict in errors:
            stream.reconfigure(errors=strict)


def _excepthook(stream: TextIO, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback repeats what was read: cleaned, also after `guarded` is left."""
    stream.write(clean("".join(traceback.format_exception(kind, error, trace))))


def log_to_stderr() -> None:
    """Log lines on stderr, each a line: no request and no file makes one that looks like another's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)


class _Lines(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return clean(super().formatException(ei)).replace("\n", "\n  ")
