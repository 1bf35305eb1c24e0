"""How much memory a run takes, reckoned before anything is loaded. An estimate: docs/training.md says how far off it was.

Activations: what autograd keeps for one pass grows with the outputs of the layers that a gradient passes. A UNet's block at depth d
works on a 4^d-th of the places, a text encoder on its tokens. Every layer of the base's table counts its outputs once; `_KEPT` stands
for what else is there: results of activation functions, copies in another shape, attention's own, and what the backward pass needs
for a moment.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil

from loraloom.bases import Base, Layer
from loraloom.lazy import torch
from loraloom.train.config import ResolvedConfig
from loraloom.train.pictures import Shape

_KEPT = 2.0  # on sd1 at 64×64 latents in float32 autograd keeps 1.46 and a pass takes 1.75; with 2 whole runs are met best
_PROGRAM = 490_000_000  # Python, torch and what loads models, once a run is under way: the peak of a run on nano less all else
_FLOAT = 4  # bytes; adapters, gradients and moments are float32
# Numbers of float32 size that an optimiser keeps for each that is trained; others are taken to keep two.
_MOMENTS: Mapping[str, float] = {"adamw": 2, "adamw8bit": 0.5, "adafactor": 0.1, "lion": 1, "sgd": 1, "prodigy": 4, "adamw_schedulefree": 2}
_HELD: Mapping[str, float] = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1, "int8": 1, "nf4": 0.5}  # bytes of a number
_RECOMPUTED = 0.6  # of that with checkpointing, as runs on tiny took
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(\w+)")
_TOKENS = 77


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    weights: int  # of the base
    adapters: int
    gradients: int
    optimizer: int
    activations: int  # of one pass
    latents: int  # of all pictures
    program: int = _PROGRAM

    @property
    def total(self) -> int:
        return self.weights + self.adapters + self.gradients + self.optimizer + self.activations + self.latents + self.program


def of(job: ResolvedConfig, base: Base, *, weights: int, width: int, trained: int, largest: Shape, latents: int) -> Memory:
    """`weights` counts the base's numbers, `width` the bytes of one as it is loaded, `trained` the adapters' numbers; `largest` is the
    shape of the largest latents, `latents` the bytes of all."""
    adapters = trained * _FLOAT
    texts = {layer.target.component for layer in base.layers if layer.place.is_text and layer.target.component in job.components}
    depth = 1 + max((int(found[2]) for layer in base.layers if (found := _BLOCK.match(layer.target.module))), default=0)
    passed = [layer for layer in base.layers if not layer.place.is_text or layer.target.component in texts]
    outputs = sum(layer.shape[0] * _places(layer, math.prod(largest), depth) for layer in passed if layer.kind != "embedding")
    held = _HELD.get(job.base_dtype, width)
    computed = 2 if job.mixed_precision != "no" or held <= 2 else 4
    return Memory(
        weights=round(weights * held),
        adapters=adapters,
        gradients=adapters,
        optimizer=round(adapters * kept_for_each(job)),
        activations=round(outputs * job.batch * computed * _KEPT * (_RECOMPUTED if job.checkpointing else 1)),
        latents=latents,
    )


def free(device: "torch.device") -> int:
    """Bytes that a run can take now: of the GPU's memory, or of the computer's with what the system only caches there."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def savings(job: ResolvedConfig) -> Iterator[str]:
    """What would make the run smaller, the gentlest first."""
    if job.batch > 1:
        yield f"--batch 1 --accumulate {job.per_step}"
    if not job.checkpointing:
        yield "--checkpointing"
    if job.base_dtype in ("loaded", "float32"):
        yield "--base-dtype bfloat16"
    yield f"a --resolution below {job.resolution}"


def kept_for_each(job: ResolvedConfig) -> float:
    """How many numbers the optimiser, and the moving average, keep for each that is trained."""
    return _MOMENTS.get(job.optimizer, 2) + (1 if job.ema else 0)


def _places(layer: Layer, area: int, depth: int) -> float:
    """On how many places of a sample the layer works, of `area` latents."""
    module = layer.target.module
    if layer.place.is_text or module.endswith(("attn2.to_k", "attn2.to_v")):
        return _TOKENS
    if "embedding" in module or "time_emb" in module:
        return 1
    found = _BLOCK.match(module)
    if found is None:
        return area / (1 << 2 * (depth - 1)) if module.startswith("mid_block") else area
    level = int(found[2]) if found[1] == "down" else depth - 1 - int(found[2])
    level += {"downsamplers": 1, "upsamplers": -1}.get(found[3], 0)
    return area / (1 << 2 * level)
