"""What is switched on around an attach does not change its numbers: autocast, a default device, inference mode, gradients."""

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


def writing(parameter: "Tensor") -> AbstractContextManager[None]:
    """`parameter` may be written to inside, without gradients. One that was made in inference mode is only written to there."""
    return torch.inference_mode() if parameter.is_inference() else torch.no_grad()
