"""Merging one module of each type into SDXL's layers, beside LyCORIS.  `python -m benchmarks.adapters [--quick] [--check]`

Every distinct shape of SDXL's attention and convolution layers is merged in float32 from the very tensors that LyCORIS' module has,
by its `merge_to` and by the engine's merge, interleaved; times are medians, summed over the 788 layers that have these shapes. Both
results are compared. The base's weights are in a file, as those of a base that was opened are: the engine's time has what it does
besides, to find every bit of them there. Writes benchmarks/results/adapters.md.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.measured import CLOCKS, Times, machine, options, span, table, write_result
from loraloom.adapters import Adapter, read_adapter
from loraloom.bases import SDXL, Target
from loraloom.engine.keep import Checkpoints
from loraloom.engine.merge import Merged
from loraloom.undo import Undo

Shape = tuple[int, ...]
# Both of LoHa's and LoKr's scales are 1 here: LyCORIS' merge applies alpha/rank twice to them (4.1.3), so that its results differ.
KINDS: Mapping[str, tuple[Any, dict[str, Any]]] = {
    "LoRA, LoCon": (LoConModule, {"lora_dim": 16, "alpha": 8}),
    "LoCon, Tucker": (LoConModule, {"lora_dim": 16, "alpha": 8, "use_tucker": True}),
    "DoRA": (LoConModule, {"lora_dim": 16, "alpha": 8, "weight_decompose": True}),
    "LoHa": (LohaModule, {"lora_dim": 8, "alpha": 8}),
    "LoKr": (LokrModule, {"lora_dim": 8, "alpha": 8, "factor": 8}),
    "LoKr, full": (LokrModule, {"lora_dim": 100000, "alpha": 1, "factor": 8}),
    "GLoRA": (GLoRAModule, {"lora_dim": 8, "alpha": 8}),
    "full": (FullModule, {}),
    "IA3": (IA3Module, {}),
    "OFT": (DiagOFTModule, {"lora_dim": 8}),
    "BOFT": (ButterflyOFTModule, {"lora_dim": 16}),  # 10 is the smallest block into which SDXL's widths are halved
}
GOALS = {"LoRA, LoCon": 5.0}  # times as fast as LyCORIS; 1 for all others


@dataclass(frozen=True)
class Seen:
    """One type over all shapes."""

    ours: float  # seconds
    theirs: float
    error: float  # largest difference relative to the largest change, of all shapes


class Component(nn.Module):
    """One layer, and where it was loaded from: what the engine asks a component of a pipeline for."""

    def __init__(self, layer: nn.Module, folder: Path) -> None:
        super().__init__()
        self.module = layer
        self.config = {"_name_or_path": str(folder)}
        save_file({f"module.{name}": tensor for name, tensor in layer.state_dict().items()}, folder / "model.safetensors")


def layer_of(shape: Shape) -> nn.Module:
    """A layer of this weight, without the time of its own initialisation."""
    layer: nn.Module
    with torch.device("meta"):
        out, columns, *kernel = shape
        layer = nn.Conv2d(columns, out, kernel[0], padding=kernel[0] // 2) if kernel else nn.Linear(columns, out)
    layer.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.02, 0.02)
    return layer.requires_grad_(False)


def scattered(module: nn.Module) -> None:
    """Large enough that a LoHa's change, a product of four, is far from the rounding of the weight."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.2, 0.2)


def theirs(kind: Any, given: dict[str, Any], layer: nn.Module) -> tuple[nn.Module, Adapter]:
    """LyCORIS' module on the layer, and our adapter of the tensors that it saves."""
    torch.manual_seed(0)
    module = kind("module", layer, 1.0, **given)
    scattered(module)
    tensors: Mapping[str, Tensor] = module.custom_state_dict() or module.state_dict()
    if isinstance(module, FullModule):  # before `apply_to` its own answer has the base taken off once too often (4.1.3)
        tensors = {"diff": module.weight, **({} if module.bias is None else {"diff_b": module.bias})}
    return module, read_adapter({suffix: tensor.detach().clone() for suffix, tensor in tensors.items()})


def one(component: Component, base: Tensor, name: str, rounds: int, clock: Callable[[], float]) -> Seen:
    """One type on one layer, whose weight is `base` before and after."""
    layer, checkpoints = component.module, Checkpoints()
    kind, given = KINDS[name]
    module, adapter = theirs(kind, given, layer)
    target, changed, times = Target("unet", "module"), {}, Times(clock)

    def measured(who: str, merge: Callable[[], object]) -> None:
        layer.weight.copy_(base)  # type: ignore[operator]
        with times.of(who):
            merge()
        changed[who] = layer.weight.detach().clone()  # type: ignore[operator]

    with torch.no_grad():
        for _ in range(rounds):
            measured("theirs", lambda: module.merge_to(1.0))  # type: ignore[operator]
            merged = Merged({"unet": component}, checkpoints, Undo())
            measured("ours", partial(merged.add, target, layer, [(adapter, 1.0)]))
        layer.weight.copy_(base)  # type: ignore[operator]
    change = float((changed["theirs"] - base).abs().max())
    error = float((changed["theirs"] - changed["ours"]).abs().max()) / change
    return Seen(times.median("ours"), times.median("theirs"), error)


def over_shapes(shapes: Mapping[Shape, int], rounds: int, clock: Callable[[], float]) -> dict[str, Seen]:
    """Every type, summed over the layers of all shapes."""
    found = dict.fromkeys(KINDS, Seen(0.0, 0.0, 0.0))
    for shape, count in shapes.items():
        layer = layer_of(shape)
        base = layer.weight.detach().clone()  # type: ignore[operator]
        with tempfile.TemporaryDirectory() as folder:
            component = Component(layer, Path(folder))
            for name, seen in found.items():
                each = one(component, base, name, rounds, clock)
                found[name] = Seen(seen.ours + count * each.ours, seen.theirs + count * each.theirs, max(seen.error, each.error))
    return found


def main() -> None:
    parser = options("adapters", __doc__, rounds=3, quick="one round, the four commonest shapes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds = 1 if arguments.quick else arguments.rounds
    layers = [layer for layer in SDXL.layers if layer.kind in ("linear", "conv") and layer.target.component == "unet"]
    counts = Counter(
        layer.shape for layer in layers if layer.attention or ".resnets." in layer.target.module or "samplers" in layer.target.module
    )
    shapes = dict(counts.most_common(4 if arguments.quick else None))
    found = over_shapes(shapes, rounds, CLOCKS[arguments.clock])
    rows, missed = [], []
    for name, seen in found.items():
        ratio, goal = seen.theirs / seen.ours, GOALS.get(name, 1.0)
        good = ratio >= goal and seen.error <= 1e-4
        missed += [] if good else [f"{name}: {ratio:.2f} ×, difference {seen.error:.1e}"]
        rows.append(
            (name, span(seen.ours), span(seen.theirs), f"{ratio:.1f} ×", f"≥ {goal:g} × {'met' if good else 'MISSED'}", f"{seen.error:.1e}")
        )
    parts = [
        f"# Merging each type into SDXL's {sum(shapes.values())} layers: float32, {len(shapes)} shapes",
        f"Medians of {rounds} interleaved rounds, {arguments.clock} time; random values. {machine()}.",
        table(("type", "loraloom", "LyCORIS", "times as fast", "goal", "largest difference"), rows),
    ]
    if missed:
        parts += ["## Missed", "\n".join(f"- {text}" for text in missed)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not arguments.quick:
        write_result("adapters", text)
    if arguments.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
