"""Packages that are not part of every installation: who needs one that is missing, and what brings it."""

import re

_NAME = r"[\w.-]+"
_DEVELOPMENT = "dev"  # the extra that has other extras in it


def missing(what: str, module: str, error: ImportError | None = None) -> str:
    """The sentence for a module that cannot be imported: what needs its package, why that failed, and what to install."""
    root = module.partition(".")[0]
    package = _package(root)
    absent = error is None or (isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == root)
    reason = "is not installed" if absent else f"cannot be imported ({error})"
    return f"{what} needs {package}, which {reason}; pip install {_brings(package)}"


def _package(name: str) -> str:
    """The name of a package, or of its module, as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _brings(package: str) -> str:
    """The extra of loraloom that has the package, by the metadata of the installation; else the package itself."""
    from importlib.metadata import PackageNotFoundError, requires  # takes as long to import as a command takes to say its help

    try:
        told = requires("loraloom") or []
    except PackageNotFoundError:  # run from its sources
        told = []
    for line in told:
        found = re.match(rf"({_NAME}).*;.*\bextra == ['\"]({_NAME})['\"]", line)
        if found and found[2] != _DEVELOPMENT and _package(found[1]) == package:
            return f'"loraloom[{found[2]}]"'
    return package
