"""Which module stands where in a live model, and the flags that loaders of adapters set. All of it is put back as it was."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module

_MARKS = ("peft_config", "_hf_peft_config_loaded", "_weight_conversions")  # left on a component by diffusers, PEFT and transformers


class Tree:
    """The modules of a few components as they are now. Holds references only: a base of any size costs nothing."""

    def __init__(self, parts: "Iterable[Module]") -> None:
        self._parts = tuple(parts)
        modules = [module for part in self._parts for module in part.modules()]
        self._children = [(module, dict(module._modules)) for module in modules]
        self._training = [(module, module.training) for module in modules]
        self._gradients = [(parameter, parameter.requires_grad) for part in self._parts for parameter in part.parameters()]
        self._marks = [(part, {name: vars(part)[name] for name in _MARKS if name in vars(part)}) for part in self._parts]

    def restore(self) -> None:
        """Every module is in its place and every flag as it was; weights are not touched."""
        for module, children in self._children:
            module._modules.update(children)
        for module, training in self._training:
            module.training = training
        for parameter, wanted in self._gradients:
            parameter.requires_grad_(wanted)
        for part, marks in self._marks:
            for name in _MARKS:
                vars(part).pop(name, None)
            vars(part).update(marks)
