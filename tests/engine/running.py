"""Mixes written as prompts write them, and what a pipeline's denoiser is given and gives while they run."""

import torch

from loraloom.engine import Engine
from loraloom.lorafile import Mix
from loraloom.prompts import parse
from loraloom.strength import Strength

OPTIONS = {"guidance_scale": 2.5, "output_type": "latent"}


def strength(text: str) -> Strength:
    """The strength of a tag, as a prompt writes it: `te=0.1@1,0.6@6`."""
    return parse(f"<lora:x:{text}>").loras[0].strength(1.0)


def mix(*stack, negative=()) -> Mix:
    def stacked(pairs):
        return tuple((file, _given(value)) for file, value in pairs)

    return Mix(stacked(stack), stacked(negative))


def _given(value) -> Strength:
    return value if isinstance(value, Strength) else strength(value) if isinstance(value, str) else Strength.of(value)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def run(pipeline, mixes, *, steps, calls=None, mode="auto", **options):
    """A whole run; latents [pictures, 4, h, w]. `calls` gets what the denoiser was given and gave."""
    options = {"prompt": "a cat", "generator": generators(3), **OPTIONS, **options}
    with Engine(pipeline).attached(mixes, steps=steps, mode=mode):
        seen = Calls(pipeline)
        try:
            latents = pipeline(num_inference_steps=steps, **options).images
        finally:
            seen.stop()
    if calls is not None:
        calls.append(seen)
    return latents


class Calls:
    """What the denoiser was given and what it gave, call by call."""

    def __init__(self, pipeline):
        self.inputs, self.outputs = [], []
        self._handle = pipeline.unet.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, _, arguments, options, output):
        self.inputs.append((tuple(value.clone() for value in arguments), _tensors(options)))
        self.outputs.append(output[0].clone())

    def stop(self):
        self._handle.remove()


def _tensors(options):
    """The tensors among keyword arguments, copied, those in a dictionary (SDXL's added conditions) too."""
    found = {name: value.clone() for name, value in options.items() if torch.is_tensor(value)}
    return found | {name: _tensors(value) for name, value in options.items() if isinstance(value, dict)}


def denoised(pipeline, mixes, inputs):
    """The denoiser's output on recorded inputs: what a run with these strengths alone gives."""
    arguments, options = inputs
    with Engine(pipeline).attached(mixes), torch.no_grad():
        return pipeline.unet(*arguments, **options).sample
