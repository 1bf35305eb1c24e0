"""Heavy libraries bound on first use, so that naming a file's keys never loads torch. torch itself is bound here, once."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """Stands for the module `name` and imports it at the first attribute access."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self.__name__), attribute)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = LazyModule("torch")
