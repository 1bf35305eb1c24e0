"""The settings file: TOML that people write too, so a change keeps their comments, their order, and what it does not know."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from loraloom.atomic import replacing
from loraloom.errors import SettingsError, WriteFailed
from loraloom.home import config_folder, expanded
from loraloom.leftovers import forget_leftovers

_TURN_SECONDS = 60  # for the turn to change the file, which takes milliseconds
_THREADS = threading.Lock()  # those of this process wait in order; between processes the lock file is looked at again and again


def settings_file() -> Path:
    """Where the settings are: `LORALOOM_SETTINGS` if it is set, else the user's own folder for configuration."""
    named = os.environ.get("LORALOOM_SETTINGS")
    return expanded(named) if named else config_folder() / "settings.toml"


def read_document(path: Path) -> tomlkit.TOMLDocument:
    """The file as it is written; empty if there is none. Raises SettingsError."""
    try:
        return tomlkit.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML: {error}") from error


def change(document: tomlkit.TOMLDocument, changes: Mapping[str, Any]) -> None:
    """Set these values; None takes a line out."""
    for name, value in changes.items():
        if value is not None:
            document[name] = value
        else:
            document.pop(name, None)


@contextmanager
def changing(path: Path) -> Iterator[Path]:
    """The file itself, where a link leads, for the block alone: all that read it, change it and write it again take turns, in every
    thread and process. Raises WriteFailed if the turn does not come."""
    from filelock import FileLock, Timeout  # takes tens of milliseconds to import, and few commands change settings

    path = path.resolve()
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_TURN_SECONDS, mode=0o600)
    with _THREADS:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            what = f"another program has been changing them for {_TURN_SECONDS} seconds; try again when it is done"
            raise WriteFailed(f"{path}: the settings could not be changed: {what}") from error
        except OSError as error:
            raise _unwritten(path, error) from error
        try:
            yield path
        finally:
            lock.release()


def write_document(path: Path, document: tomlkit.TOMLDocument) -> None:
    """Write it at once: a reader sees the old file or the new one. Raises WriteFailed, and nothing has changed."""
    forget_leftovers(path.parent)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o600)
        file.write(tomlkit.dumps(document))
        file.flush()
        os.fsync(file.fileno())


def _unwritten(path: Path, error: OSError) -> WriteFailed:
    return WriteFailed(f"{path}: the settings could not be written: {error.strerror or error}; nothing has changed")
