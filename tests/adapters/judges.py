"""What LyCORIS' and PEFT's own modules give: the judges of the adapter types."""

from collections.abc import Callable
from typing import Any

import peft
import torch
from torch import Tensor, nn

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(12, 8),
    "no bias": lambda: nn.Linear(12, 8, bias=False),
    "1x1": lambda: nn.Conv2d(12, 8, 1),
    "3x3": lambda: nn.Conv2d(12, 8, 3, padding=1),
    "3x3 stride": lambda: nn.Conv2d(12, 8, 3, stride=2, padding=1),
}  # no dilation: PEFT 0.21 leaves it out of its own branch and fails; the merge law in contract/ holds it


def made(layer: str) -> tuple[nn.Module, Tensor]:
    """The layer, seeded, and an input for it."""
    torch.manual_seed(0)
    module = LAYERS[layer]()
    return module, torch.randn((2, 12, 7, 6) if isinstance(module, nn.Conv2d) else (3, 12))


def scattered(module: nn.Module, size: float = 0.3) -> None:
    """Random values in every parameter: fresh ones have delta 0, which anything equals."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * size)


def lycoris(kind: type, layer: nn.Module, x: Tensor, size: float = 0.3, **options: Any) -> tuple[dict[str, Tensor], Tensor]:
    """(tensors as LyCORIS saves them, by suffix; output of its forward) of a module with random values."""
    module = kind("name", layer, 1.0, **options)
    scattered(module, size)
    module.eval()
    module.apply_to()
    try:
        with torch.no_grad():
            output = layer(x)
            tensors = module.custom_state_dict() if hasattr(module, "custom_state_dict") else None
            tensors = dict(tensors or module.state_dict())
    finally:
        module.restore()
    return {suffix: tensor.detach().clone() for suffix, tensor in tensors.items()}, output


def through_peft(config: peft.PeftConfig, layer: nn.Module, x: Tensor, size: float = 0.3) -> tuple[dict[str, Tensor], Tensor, Any]:
    """(tensors as PEFT saves them, by suffix; output of its forward; its layer) with random values in what it trains."""
    model = peft.get_peft_model(nn.Sequential(layer), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.copy_(torch.randn_like(parameter) * size)
            elif parameter.requires_grad:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
        output = model(x)
    saved = peft.get_peft_model_state_dict(model)
    tensors = {name.split("base_model.model.0.")[1]: tensor.detach().clone() for name, tensor in saved.items()}
    return tensors, output, model.base_model.model[0]
