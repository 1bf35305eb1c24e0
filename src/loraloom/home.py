"""The user's own folders, also for an account that has none: a service or a container without HOME."""

import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path, user_config_path


def config_folder() -> Path:
    """Where settings are kept."""
    try:
        return user_config_path("loraloom")
    except RuntimeError:  # no home folder is known
        return _without_home()


def cache_folder() -> Path:
    """Where what can be made again is kept."""
    try:
        return user_cache_path("loraloom")
    except RuntimeError:
        return _without_home()


def expanded(path: str | Path) -> Path:
    """The path with the home folder for a leading `~` or `~name`; as it is where there is none, for a file may be called `~x`."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no such home


def shortened(path: Path) -> str:
    """`~/loras/x` for a path below the home folder."""
    home = expanded("~")
    return f"~/{path.relative_to(home)}" if home.is_absolute() and path.is_relative_to(home) else str(path)


def _without_home() -> Path:
    """A folder of this account's alone, which lasts as long as the system keeps such folders."""
    return Path(tempfile.gettempdir()) / f"loraloom-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
