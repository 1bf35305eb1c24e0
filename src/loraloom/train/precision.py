"""Mixed precision: matrix products in half precision, the adapters' own tensors and the loss in float32."""

from typing import TYPE_CHECKING

from loraloom.errors import NotSupported
from loraloom.lazy import torch
from loraloom.train.config import ResolvedConfig
from loraloom.train.view import View

if TYPE_CHECKING:
    from torch.amp import GradScaler


def check(job: ResolvedConfig, seen: View) -> tuple[str, ...]:
    """Notes on what is slow here or saves nothing. Raises NotSupported for what cannot work."""
    where, half = seen.device.type, job.mixed_precision
    for name, root in seen.components.items():
        if any(type(weight.data) is not torch.Tensor or not weight.is_floating_point() for weight in root.parameters()):
            raise NotSupported(f"{name} is quantised already; load the base anew, and say with --base-dtype how it is to be held")
    if where == "cpu" and half == "float16":
        raise NotSupported("mixed_precision float16 needs a GPU; on a CPU use bfloat16 or no")
    weights = str(seen.dtype).removeprefix("torch.") if job.base_dtype == "loaded" else job.base_dtype
    if weights == "float16" and half == "no":
        raise NotSupported(
            "the base is loaded in float16, in which small gradients vanish; "
            "use --base-dtype bfloat16 or float32, or --mixed-precision float16"
        )
    if where == "cpu" and weights == "float16":
        raise NotSupported("a float16 base needs a GPU; on a CPU use --base-dtype bfloat16 or float32")
    notes = []
    if where == "cpu" and "bfloat16" in (half, weights) and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        notes.append("this CPU has no bfloat16 products: steps will be many times slower than in float32")
    if weights in ("int8", "float8") and not job.checkpointing:
        notes.append(f"--base-dtype {weights} saves memory together with --checkpointing: without it the backward pass keeps float copies")
    return tuple(notes)


def autocast(job: ResolvedConfig, seen: View) -> "torch.autocast":
    """The context in which the base and the adapters beside it compute; without mixed precision it changes nothing."""
    half = job.mixed_precision
    dtype = torch.bfloat16 if half == "no" else getattr(torch, half)
    return torch.autocast(seen.device.type, dtype=dtype, enabled=half != "no")


def scaler(job: ResolvedConfig, seen: View) -> "GradScaler":
    """Multiplies the loss so that float16's gradients do not vanish, and leaves out steps in which they overflow; off for all others."""
    return torch.amp.GradScaler(seen.device.type, enabled=job.mixed_precision == "float16")
