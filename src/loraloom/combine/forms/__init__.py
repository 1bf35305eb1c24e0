"""What a change is made into: one function for each type. A type is one file here and one name in `TYPES`."""

from collections.abc import Callable, Mapping

from loraloom.combine.change import Change, Module
from loraloom.combine.forms.full import full
from loraloom.combine.forms.lokr import lokr
from loraloom.combine.forms.lora import lora
from loraloom.combine.forms.thinnest import thinnest
from loraloom.combine.goal import Goal
from loraloom.errors import NotSupported, suggestion

Form = Callable[[Change, Goal], Module]
TYPES: Mapping[str, Form] = {"lora": lora, "lokr": lokr, "full": full}


def form(kind: str | None) -> Form:
    """The function of a type; None is whatever is thinnest. Raises NotSupported for a type that nothing is made into."""
    if kind is None:
        return thinnest
    if kind not in TYPES:
        raise NotSupported(f"nothing is converted to the type {kind!r}{suggestion(kind, TYPES)}; there are {', '.join(TYPES)}")
    return TYPES[kind]


__all__ = ["TYPES", "Form", "form"]
