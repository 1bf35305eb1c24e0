"""Training steps of loraloom, PEFT, LyCORIS and full fine-tuning, on one set of frozen weights: what benchmarks/training.py compares.

loraloom's is the whole of `train`, as a user runs it; the others are the loop of diffusers' `train_text_to_image_lora.py` with latents
and text embeddings at hand. Each runs until it is told to stop after a step, in a process of its own.
"""

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.fullsize import SD1
from loraloom.tensorfile import Header
from loraloom.train import Progress, TrainConfig, train

RANK, RATE = 16, 1e-4
_ENDLESS = 10_000  # steps
AfterStep = Callable[[], bool]  # called after each step; False ends the run


@dataclass(frozen=True)
class Job:
    """What a step is a step of."""

    side: int  # of the latents
    checkpointing: bool = False


@dataclass(frozen=True)
class Size:
    trained: int  # parameters
    file: int  # bytes


def attention(unet: nn.Module) -> list[str]:
    """What is trained in all of them: kohya's choice, every Linear and 1×1 convolution inside a Transformer2DModel."""
    targets = {layer.target.module for layer in SD1.base.layers if layer.attention and layer.target.component == "unet"}
    return [name for name, module in unet.named_modules() if name in targets and isinstance(module, nn.Linear | nn.Conv2d)]


class Ours:
    """`loraloom.train.train`."""

    def __init__(self, pipeline: Any, job: Job, folder: Path, **options: Any) -> None:
        side = job.side * pipeline.vae_scale_factor
        more = {"checkpointing": True} if job.checkpointing else {}
        self._pipeline = pipeline
        self._config = TrainConfig(
            pictures=_pictures(folder / "pictures", side),
            output=folder / "ours.safetensors",
            **({"rank": RANK, "batch": 1} | more | options),
            steps=_ENDLESS,
            save_every=_ENDLESS,
            resolution=side,
            learning_rate=RATE,
        )

    def run(self, after_step: AfterStep) -> None:
        """Pictures and captions are encoded before the first step."""

        def hold(now: Progress) -> None:
            if now.stage == "train" and not after_step():
                raise _Over

        with suppress(_Over):
            train(self._config, self._pipeline, SD1.base, progress=hold)

    def size(self) -> Size:
        """Of the file that one step of this job writes."""
        config = self._config.model_copy(update={"steps": 1, "save_every": 1, "overwrite": True})
        file = Header.read(train(config, self._pipeline, SD1.base).path)
        return Size(sum(math.prod(entry.shape) for name, entry in file.entries.items() if not name.endswith(".alpha")), file.file_size)


class _Over(Exception):
    """The benchmark has seen enough steps."""


@dataclass
class Script:
    """The loop of diffusers' script over whatever parameters are trained."""

    pipeline: Any
    job: Job
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        unet = self.pipeline.unet
        if self.job.checkpointing:
            unet.enable_gradient_checkpointing()
        unet.train()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=1e-2)
        self._latents = torch.randn(1, 4, self.job.side, self.job.side)
        self._text = torch.randn(1, 77, unet.config.cross_attention_dim)

    def run(self, after_step: AfterStep) -> None:
        self._step()
        while after_step():
            self._step()

    def _step(self) -> None:
        noise, scheduler = torch.randn_like(self._latents), self.pipeline.scheduler
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (1,)).long()
        noisy = scheduler.add_noise(self._latents, noise, timesteps)
        predicted: Tensor = self.pipeline.unet(noisy, timesteps, self._text, return_dict=False)[0]
        loss = nn.functional.mse_loss(predicted.float(), noise.float(), reduction="mean")
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def size(self) -> Size:
        """Two bytes a number, as loraloom's file has them."""
        count = sum(parameter.numel() for parameter in self.parameters)
        return Size(count, 2 * count)


def peft(pipeline: Any, job: Job, config: Any) -> Script:
    """`config(target_modules)` is one of PEFT's configurations."""
    from peft import inject_adapter_in_model

    unet = pipeline.unet
    unet.requires_grad_(False)
    inject_adapter_in_model(config(attention(unet)), unet)
    return Script(pipeline, job, [parameter for parameter in unet.parameters() if parameter.requires_grad])


def lycoris(pipeline: Any, job: Job, **options: Any) -> Script:
    from lycoris import LycorisNetwork, create_lycoris

    logging.getLogger("LyCORIS").setLevel(logging.ERROR)
    unet = pipeline.unet
    unet.requires_grad_(False)
    LycorisNetwork.apply_preset({"enable_conv": False, "target_module": ["Transformer2DModel"], "target_name": []})
    network = create_lycoris(unet, 1.0, linear_dim=RANK, linear_alpha=RANK, **options)
    if len(network.loras) != len(attention(unet)):
        raise ValueError(f"LyCORIS found {len(network.loras)} modules, the others train {len(attention(unet))}")
    network.apply_to()
    pipeline.__dict__["_lycoris"] = network  # its layers know it weakly
    return Script(pipeline, job, list(network.parameters()))


def full(pipeline: Any, job: Job) -> Script:
    """Every weight of the UNet. The parameters are the pipeline's own: nobody else may use it."""
    pipeline.unet.requires_grad_(True)
    return Script(pipeline, job, list(pipeline.unet.parameters()))


def _lora(**options: Any) -> Callable[[list[str]], Any]:
    from peft import LoraConfig

    return lambda targets: LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets, **options)


def _loha(targets: list[str]) -> Any:
    from peft import LoHaConfig

    return LoHaConfig(r=RANK, alpha=RANK, target_modules=targets)


def _lokr(targets: list[str]) -> Any:
    from peft import LoKrConfig

    return LoKrConfig(r=RANK, alpha=RANK, target_modules=targets)


Maker = Callable[[Any, Job, Path], Ours | Script]
TRAINERS: dict[str, Maker] = {
    "loraloom LoRA": Ours,
    "PEFT LoRA": lambda pipeline, job, _: peft(pipeline, job, _lora()),
    "LyCORIS LoRA": lambda pipeline, job, _: lycoris(pipeline, job, algo="lora"),
    "LyCORIS LoRA, bypass_mode": lambda pipeline, job, _: lycoris(pipeline, job, algo="lora", bypass_mode=True),
    "loraloom DoRA": lambda pipeline, job, folder: Ours(pipeline, job, folder, dora=True),
    "PEFT DoRA": lambda pipeline, job, _: peft(pipeline, job, _lora(use_dora=True)),
    "LyCORIS DoRA": lambda pipeline, job, _: lycoris(pipeline, job, algo="lora", dora_wd=True),
    "loraloom LoHa": lambda pipeline, job, folder: Ours(pipeline, job, folder, type="loha"),
    "PEFT LoHa": lambda pipeline, job, _: peft(pipeline, job, _loha),
    "LyCORIS LoHa": lambda pipeline, job, _: lycoris(pipeline, job, algo="loha"),
    "loraloom LoKr": lambda pipeline, job, folder: Ours(pipeline, job, folder, type="lokr"),
    "PEFT LoKr": lambda pipeline, job, _: peft(pipeline, job, _lokr),
    "LyCORIS LoKr": lambda pipeline, job, _: lycoris(pipeline, job, algo="lokr", factor=-1),
    "full fine-tuning": lambda pipeline, job, _: full(pipeline, job),
}


def _pictures(folder: Path, side: int) -> Path:
    """Two pictures of noise with captions; nothing is learned from them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(2):
        values = np.random.default_rng(index).integers(0, 255, (side, side, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text("a picture of noise", "utf-8")
    return folder
