"""What is switched on around an attach does not change its numbers: autocast, a default device, inference mode, gradients. And what
loaders exchange in torch while they make modules is as it was afterwards."""

from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING

from loraloom.lazy import torch
from loraloom.undo import Undo, changing

if TYPE_CHECKING:
    from torch import Tensor


def set_aside() -> AbstractContextManager[None]:
    """Inside, products keep the dtypes of their factors, new tensors are on the CPU unless another device is named, and they can be
    written to afterwards, in inference mode and out of it."""
    return changing(_set_aside)


def _set_aside(undo: Undo) -> None:
    for device in ("cpu", "cuda", "mps", "xpu"):
        if torch.is_autocast_enabled(device):
            undo.before(partial(torch.set_autocast_enabled, device, True))
            torch.set_autocast_enabled(device, False)
    contexts = ExitStack()
    undo.before(contexts.close)
    if torch.is_inference_mode_enabled():
        contexts.enter_context(torch.inference_mode(False))
    if torch.get_default_device().type != "cpu":
        contexts.enter_context(torch.device("cpu"))
    undo.before(partial(torch.set_grad_enabled, torch.is_grad_enabled()))
    torch.set_grad_enabled(False)


def making() -> AbstractContextManager[None]:
    """Around what makes modules: afterwards torch makes them as it did before, however that ended.

    Loaders exchange torch's own functions meanwhile (accelerate's init_empty_weights: every parameter of the process on the meta device;
    diffusers and transformers: no initialisation) in context managers that an interrupt can leave before their exit begins. Contexts of
    `torch.device` are not looked at: one that is left twice would take away somebody else's.
    """
    return changing(_making)


def _making(undo: Undo) -> None:
    undo.before(partial(torch.set_default_dtype, torch.get_default_dtype()))
    inits = [name for name, value in vars(torch.nn.init).items() if callable(value)]
    for owner, names in ((torch.nn.Module, ["register_parameter"]), (torch.nn.init, inits)):
        for name in names:
            if not _exchanged(getattr(owner, name)):
                undo.keep(owner, name)


def _exchanged(function: object) -> bool:
    """Whether another thread's loader has put it there: it is not ours to keep."""
    return str(getattr(function, "__module__", "")).startswith(("accelerate", "diffusers", "transformers", "peft"))


def writing(parameter: "Tensor") -> AbstractContextManager[None]:
    """`parameter` may be written to inside, without gradients. One that was made in inference mode is only written to there."""
    return torch.inference_mode() if parameter.is_inference() else torch.no_grad()
