"""The settings file: TOML that people write too, so a change keeps their comments, their order, and what it does not know."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomlkit
from platformdirs import user_config_path
from tomlkit.exceptions import TOMLKitError

from loraloom.errors import SettingsError, WriteFailed


def settings_file() -> Path:
    """Where the settings are: `LORALOOM_SETTINGS` if it is set, else the user's own folder for configuration."""
    named = os.environ.get("LORALOOM_SETTINGS")
    return Path(named).expanduser() if named else user_config_path("loraloom") / "settings.toml"


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


def write_document(path: Path, document: tomlkit.TOMLDocument) -> None:
    """Write it at once: a reader sees the old file or the new one. A link stays a link. Raises WriteFailed, and nothing has changed."""
    path = path.resolve()
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".settings.", suffix=".partial", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(tomlkit.dumps(document))
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o600)
        temporary.replace(path)
    except OSError as error:
        raise WriteFailed(f"{path}: the settings could not be written: {error.strerror or error}; nothing has changed") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
