"""What the judges of the dialects share: a nano pipeline's outputs, and random values in what another library trains."""

import torch
from torch import nn

from loraloom.engine import Engine
from loraloom.lorafile import LoraFile, Mix
from loraloom.strength import Strength


def outputs(pipeline) -> list[torch.Tensor]:
    """The text encoder's and the UNet's output on fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    latents, ids = torch.randn(2, 4, 8, 8, generator=generator), torch.arange(64).reshape(2, 32) + 7
    with torch.no_grad():
        text = pipeline.text_encoder(ids).last_hidden_state
        return [text, pipeline.unet(latents, 500, text).sample]


def attached(pipeline, file: LoraFile, mode: str = "merge") -> list[torch.Tensor]:
    """The outputs with a network at strength 1."""
    with Engine(pipeline).attached(Mix(((file, Strength.of(1)),)), mode=mode):
        return outputs(pipeline)


def randomise(module: nn.Module, size: float = 0.2) -> None:
    """Random values in every parameter that is trained. Magnitudes and factors keep near what they are."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            values = torch.randn(parameter.shape, generator=generator)
            if "magnitude" in name or "dora_scale" in name or "ia3_l" in name or "rescale" in name:
                parameter.mul_(1 + 0.2 * values.tanh())
            else:
                parameter.copy_(values * size)
