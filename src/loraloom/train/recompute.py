"""Gradient checkpointing: layers are computed again in the backward pass instead of keeping what they gave.  Chen et al. 2016,
arXiv:1604.06174. The gradients are the same bits; a step takes about a third longer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loraloom.errors import NotSupported
from loraloom.strength import is_text_encoder
from loraloom.train.view import View

if TYPE_CHECKING:
    from torch.nn import Module


@contextmanager
def recomputed(seen: View, components: tuple[str, ...]) -> Iterator[None]:
    """Inside, the denoiser and the trained text encoders compute twice; afterwards they are as before.

    Raises NotSupported for a component that cannot.
    """
    wanted = {name: root for name, root in seen.components.items() if name in components or not is_text_encoder(name)}
    modules = [module for root in wanted.values() for module in root.modules() if hasattr(module, "gradient_checkpointing")]
    before = [(module, module.gradient_checkpointing, module.training) for module in modules]
    try:
        for name, root in wanted.items():
            _enable(name, root)
        yield
    finally:
        for module, enabled, training in before:
            module.gradient_checkpointing, module.training = enabled, training


def _enable(name: str, root: "Module") -> None:
    if callable(enable := getattr(root, "enable_gradient_checkpointing", None)):  # diffusers
        enable()
    elif callable(enable := getattr(root, "activation_checkpointing_enable", None)):  # transformers, whose layers ask for training mode
        enable(activation_checkpointing_kwargs={"use_reentrant": False})
        root.disable_input_require_grads()  # type: ignore[operator] # a hook that it leaves, for reentrant checkpoints
        for module in root.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.training = True  # its children, which might drop values out, stay as they are
    else:
        raise NotSupported(f"{name} ({type(root).__name__}) has no gradient checkpointing; train without --checkpointing")
