"""Beside PEFT: what diffusers gives with the same files and strengths, merged and beside, on nano and on the embedded base."""

import pytest
import torch
from running import mix, strength
from support import close

from loraloom import dialects
from loraloom.bases import NANO, TINY
from loraloom.bases.tiny.model import folder
from loraloom.bases.tiny.model import load as load_tiny
from loraloom.engine import Engine, Fallback
from loraloom.lorafile import Mix


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_mixes_of_up_to_ten_networks_give_pefts_output(pipeline, make_lora, tmp_path, count):
    """1e-5 of the largest value in float32: the order of sums is all that differs."""
    paths = [make_lora(tmp_path / f"{n}.safetensors", seed=n, rank=1 + n, size=0.3) for n in range(count)]
    texts = [f"te={0.9 - 0.2 * n:.1f}:unet={0.2 * n - 0.7:.1f}" for n in range(count)]
    expected = _through_peft(pipeline, paths, texts, _output)
    stack = [(dialects.read(path, NANO), text) for path, text in zip(paths, texts, strict=True)]
    before = _output(pipeline)
    assert not close(before, expected, 1e-2)
    for mode in ("merge", "branch", "auto"):
        with Engine(pipeline).attached(mix(*stack), mode=mode):
            assert close(_output(pipeline), expected, 1e-5), mode
    assert torch.equal(_output(pipeline), before)


def test_the_shipped_loras_give_pefts_output_on_the_embedded_base():
    pipeline = load_tiny()
    paths, texts = sorted((folder().parent / "loras" / "tiny").glob("*.safetensors")), ["0.8", "-0.3", "0.5"]
    assert len(paths) == len(texts)
    expected = _through_peft(pipeline, paths, texts, _output)
    stack = [(dialects.read(path, TINY), text) for path, text in zip(paths, texts, strict=True)]
    for mode in ("merge", "branch"):
        with Engine(pipeline).attached(mix(*stack), mode=mode):
            assert close(_output(pipeline), expected, 1e-5), mode


def _through_peft(pipeline, paths, texts, output):
    fallback = Fallback(pipeline)
    stack = tuple((fallback.read(path), strength(text)) for path, text in zip(paths, texts, strict=True))
    with fallback.attached(Mix(stack)):
        return output(pipeline)


def _output(pipeline):
    """The UNet's output on the text encoder's: what both change."""
    generator = torch.Generator().manual_seed(1)
    width, side = pipeline.tokenizer.model_max_length, pipeline.unet.config.sample_size
    ids = torch.arange(2 * width).reshape(2, width) % 500
    with torch.no_grad():
        text = pipeline.text_encoder(ids).last_hidden_state
        return pipeline.unet(torch.randn(2, 4, side, side, generator=generator), 500, text).sample
