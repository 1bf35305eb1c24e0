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
    contexts.enter_context(torch.inference_mode(False))
    contexts.enter_context(torch.no_grad())
    if torch.get_default_device().type != "cpu":
        contexts.enter_context(torch.device("cpu"))


def writing(parameter: "Tensor") -> AbstractContextManager[object]:
    """`parameter` may be written to inside. One that was made in inference mode is only written to there."""
    contexts = ExitStack()
    contexts.enter_context(torch.inference_mode(parameter.is_inference()))
    contexts.enter_context(torch.no_grad())
    return contexts
