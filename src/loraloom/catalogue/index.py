"""The index: facts of every file that was ever read, in one small SQLite file. A cache: everything in it can be read again.

Each use opens the file, does one short transaction and closes it, so threads and processes share it without sharing anything else.
The journal is SQLite's usual one, not WAL: that needs memory shared by all processes, which home folders on network disks do not
have, and leaves two more files; we write seldom and in few transactions, so readers hardly ever wait.
"""

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import msgspec

from loraloom.catalogue.facts import Facts
from loraloom.catalogue.scan import Item
from loraloom.catalogue.sidecar import preview

_OURS = 0x6C6F6C6D  # "lolm", SQLite's application_id
_LAYOUT = 1  # of the table below, SQLite's user_version
_TABLE = (
    "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, stamp TEXT NOT NULL, facts BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID"
)
_WAIT = 2.0  # seconds for somebody else's transaction; ours take a few milliseconds
_SOURCES = ("adapters", "bases", "catalogue", "dialects", "tensorfile", "peek.py")  # the code that facts come from
_AT_ONCE = 500  # SQLite's old limit of parameters is 999

Value = TypeVar("Value")


class Index:
    """Facts by file. Never an error: without an index, files are read, and `problem` says why it was not used."""

    def __init__(self, path: Path | None) -> None:
        """None: no index at all. The file and its folder are made when there is something to write."""
        self.path = path
        self.problem = ""

    def load(self, items: Iterable[Item]) -> dict[Item, Facts]:
        """What is known about these files as they are now."""
        wanted = {_key(item): item for item in items}
        if self.path is None or not wanted or not self.path.exists():
            return {}
        few = tuple(wanted) if len(wanted) <= _AT_ONCE else ()
        where = f" WHERE path IN ({', '.join('?' * len(few))})" if few else ""
        rows = self._use(lambda index: index.execute(f"SELECT path, stamp, facts, sum FROM files{where}", few).fetchall())
        return dict(_known(wanted, rows or ()))

    def store(self, facts: Mapping[Item, Facts]) -> None:
        """Remember these."""
        rows = [_row(item, known) for item, known in facts.items() if known.read]
        if self.path is None or not rows:
            return
        with suppress(OSError):  # SQLite will say that there is no such folder
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._use(lambda index: index.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)):
            self.problem = ""

    def forget(self, folders: Iterable[Path], items: Iterable[Item]) -> None:
        """Drop every file below these folders that is not among `items`."""
        if self.path is None or not self.path.exists():
            return
        there = {_key(item) for item in items}

        def drop(index: sqlite3.Connection) -> None:
            for folder in folders:
                start = os.fsencode(os.path.abspath(folder)).rstrip(b"/\\") + os.sep.encode()  # noqa: PTH100
                stop = start[:-1] + bytes([start[-1] + 1])  # the first that no path below the folder reaches
                below = index.execute("SELECT path FROM files WHERE path >= ? AND path < ?", (start, stop)).fetchall()
                index.executemany("DELETE FROM files WHERE path = ?", [row for row in below if row[0] not in there])

        self._use(drop)

    def _use(self, work: Callable[[sqlite3.Connection], Value]) -> Value | None:
        """What `work` gives, in one transaction; None if SQLite or the system has anything against it: that becomes `problem`.
        A damaged index of ours is thrown away, and the next use begins a new one."""
        assert self.path is not None
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT)) as connection:
                connection.execute("PRAGMA synchronous = NORMAL")  # one wait for the disk less; what a power cut takes can be read again
                _prepare(connection)
                with connection:
                    done = work(connection)
        except (sqlite3.Error, OSError) as error:
            self.problem = f"{self.path}: the index of the library could not be used, so files are read each time: {error}"
            # Operational errors are of the moment (locked, no room), save that of a table that ours always has.
            damaged = not isinstance(error, sqlite3.OperationalError) or "no such" in str(error)
            if damaged and _is_ours(self.path):
                _remove(self.path)
            return None
        return done


class _NotOurs(sqlite3.Error):
    pass


def _prepare(connection: sqlite3.Connection) -> None:
    """The table is there, in the layout of this version. Raises sqlite3.Error."""
    (ours,) = connection.execute("PRAGMA application_id").fetchone()
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if (ours, layout) == (_OURS, _LAYOUT):
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if ours != _OURS and (tables or ours or layout):
        raise _NotOurs("it is a database of another program; name another file in library_index")
    with connection:
        connection.execute("BEGIN IMMEDIATE")  # another process may be at it as well
        if ours == _OURS and layout != _LAYOUT:
            connection.execute("DROP TABLE IF EXISTS files")
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA application_id = {_OURS}")
        connection.execute(f"PRAGMA user_version = {_LAYOUT}")


def _is_ours(path: Path) -> bool:
    """By the first bytes (sqlite.org/fileformat, "The Database Header"): what somebody else wrote is never thrown away."""
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:72] == _OURS.to_bytes(4, "big")


def _remove(path: Path) -> None:
    """The journal first: it would be played back into the next index."""
    for name in (f"{path.name}-journal", path.name):
        with suppress(OSError):
            path.with_name(name).unlink(missing_ok=True)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Facts, dec_hook=lambda kind, value: kind(value))  # the hook only lets `preview` be a Path


Row = tuple[bytes, str, bytes, int]


def _row(item: Item, facts: Facts) -> Row:
    encoded = _ENCODER.encode(facts if facts.preview is None else replace(facts, preview=None))
    return _key(item), _stamp(item), encoded, zlib.crc32(encoded)


def _known(wanted: Mapping[bytes, Item], rows: Iterable[Row]) -> Iterator[tuple[Item, Facts]]:
    """The rows that tell of these files as they are. SQLite does not notice every damage; the sum does."""
    for key, stamp, encoded, checksum in rows:
        item = wanted.get(key)
        if item is None or stamp != _stamp(item) or not isinstance(encoded, bytes) or zlib.crc32(encoded) != checksum:
            continue
        with suppress(msgspec.DecodeError):
            facts = _DECODER.decode(encoded)
            picture = preview(item.path, [each.ending for each in item.beside])
            yield item, facts if picture is None else replace(facts, preview=picture)


def _key(item: Item) -> bytes:
    return os.fsencode(item.path)


def _stamp(item: Item) -> str:
    """Changes whenever the file, its config, a sidecar, or the code that read them does."""
    beside = "".join(f" {ending} {size} {mtime}" for ending, size, mtime in item.beside)
    config = " config {} {}".format(*item.config) if item.config else ""
    return f"{_reader()} {item.size} {item.mtime_ns}{config}{beside}"


@cache
def _reader() -> str:
    """The state of the code that facts come from: after an update, or a change to a clone, files are read anew."""
    package = Path(__file__).parent.parent
    sources = sorted(file for name in _SOURCES for file in ([package / name] if name.endswith(".py") else (package / name).rglob("*.py")))
    states = [(file.stat().st_size, file.stat().st_mtime_ns) for file in sources]
    return f"{version('loraloom')}-{hash(tuple(states)) & 0xFFFFFFFF:08x}"
