"""What other packages add: adapter types and dialects, by the entry points `loraloom.types` and `loraloom.dialects`."""

from functools import cache
from typing import Any

from loraloom.errors import SettingsError


@cache
def registered(group: str, kind: Any) -> tuple[Any, ...]:
    """The objects of the entry points `group`, in the order of their names: a `kind`, or a class of that kind.

    Looking through the installed packages takes tens of milliseconds, so callers ask only when nothing of our own fits.
    Raises SettingsError, naming the package, for one that cannot be loaded or is something else.
    """
    from importlib.metadata import entry_points  # takes as long to import as all the rest of a dialect

    found = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "a package"
        what = f"{package}: its entry point {point.name} = {point.value}"
        try:
            loaded = point.load()
        except (ImportError, AttributeError) as error:
            raise SettingsError(f"{what} cannot be loaded ({error}); update or remove it") from error
        if not (isinstance(loaded, kind) or (isinstance(loaded, type) and issubclass(loaded, kind))):
            raise SettingsError(f"{what} is no {kind.__name__}; update or remove it")
        found.append(loaded)
    return tuple(found)
