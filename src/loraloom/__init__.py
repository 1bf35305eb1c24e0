"""loraloom: train, load, mix and export LoRA adapters for diffusion models without touching the base.

    import loraloom

    ink = loraloom.read("ink.safetensors")
    engine = loraloom.Engine(pipeline)
    with engine.attached(loraloom.Mix([(ink, loraloom.Strength.of(0.8))])):
        picture = pipeline("a castle at night").images[0]

Names are imported when they are first used, so that `import loraloom` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraloom.catalogue.inspecting import Inspection, inspect
    from loraloom.dialects import read, write
    from loraloom.engine import Engine, Fallback, Report
    from loraloom.errors import LoraError
    from loraloom.generate.infotext import Recipe, read_recipe
    from loraloom.generate.jobs import Picture
    from loraloom.generate.request import GridRequest, ImageRequest
    from loraloom.lorafile import LoraFile, Mix
    from loraloom.prompts import parse
    from loraloom.schedule import Schedule
    from loraloom.session import Session
    from loraloom.settings import Settings
    from loraloom.strength import Strength

    __version__: str

_HOMES = {
    "Engine": "loraloom.engine",
    "Fallback": "loraloom.engine",
    "GridRequest": "loraloom.generate.request",
    "ImageRequest": "loraloom.generate.request",
    "Inspection": "loraloom.catalogue.inspecting",
    "LoraError": "loraloom.errors",
    "LoraFile": "loraloom.lorafile",
    "Mix": "loraloom.lorafile",
    "Picture": "loraloom.generate.jobs",
    "Recipe": "loraloom.generate.infotext",
    "Report": "loraloom.engine",
    "Schedule": "loraloom.schedule",
    "Session": "loraloom.session",
    "Settings": "loraloom.settings",
    "Strength": "loraloom.strength",
    "inspect": "loraloom.catalogue.inspecting",
    "parse": "loraloom.prompts",
    "read": "loraloom.dialects",
    "read_recipe": "loraloom.generate.infotext",
    "write": "loraloom.dialects",
}

__all__ = [
    "Engine",
    "Fallback",
    "GridRequest",
    "ImageRequest",
    "Inspection",
    "LoraError",
    "LoraFile",
    "Mix",
    "Picture",
    "Recipe",
    "Report",
    "Schedule",
    "Session",
    "Settings",
    "Strength",
    "__version__",
    "inspect",
    "parse",
    "read",
    "read_recipe",
    "write",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("loraloom")
    if name not in _HOMES:
        raise AttributeError(f"module 'loraloom' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
