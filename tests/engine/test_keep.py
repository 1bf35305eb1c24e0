"""Laws of the kept base: left to its checkpoint where every bit is there, copied where not, and back with every bit."""

import copy

import pytest
import torch
from diffusers import StableDiffusionPipeline
from support import everything, fingerprint, network

from loraloom.bases import NANO
from loraloom.engine import Engine
from loraloom.engine.keep import Kept
from loraloom.errors import EngineError
from loraloom.lorafile import Mix
from loraloom.strength import Strength

MIX = Mix(((network(NANO, everything, bias=True), Strength.of(0.7)),))
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(pipeline, tmp_path):
    half = copy.deepcopy(pipeline).to(torch.float16)
    half.save_pretrained(tmp_path)
    return tmp_path


def merged_bytes(pipeline) -> int:
    with Engine(pipeline).attached(MIX, mode="merge") as report:
        return report.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_lies_in_the_checkpoint_is_not_copied(pipeline, folder, dtype):
    opened = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype)
    before = fingerprint(opened)
    assert merged_bytes(opened) == 0
    assert fingerprint(opened) == before
    assert merged_bytes(pipeline) > 100_000  # made on the fly: there is no file


def test_a_weight_that_differs_in_one_bit_is_copied(folder):
    opened = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    weight = opened.unet.conv_in.weight
    with torch.no_grad():
        weight.view(-1)[3] = torch.nextafter(weight.view(-1)[3], torch.tensor(9.0))
    before = fingerprint(opened)
    assert merged_bytes(opened) == weight.nbytes
    assert fingerprint(opened) == before


def test_a_checkpoint_that_is_replaced_meanwhile_changes_nothing(folder):
    """The mapped file stays what it was, as files are replaced and not written into."""
    opened = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    before = fingerprint(opened)
    with Engine(opened).attached(MIX, mode="merge"):
        (folder / "other").write_bytes(b"nothing")
        (folder / "other").replace(folder / UNET)
    assert fingerprint(opened) == before


def test_a_checkpoint_that_cannot_be_read_is_not_relied_on(folder):
    opened = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    before = fingerprint(opened)
    (folder / "other").write_bytes(b"nothing")
    (folder / "other").replace(folder / UNET)
    assert merged_bytes(opened) > 100_000
    assert fingerprint(opened) == before


def test_what_cannot_be_brought_back_is_said_and_the_rest_is_back(pipeline, monkeypatch):
    changed = copy.deepcopy(pipeline)
    before, lost = fingerprint(changed), changed.unet.conv_in.weight
    plain = Kept.restore

    def restore(self, parameter):
        if parameter is lost:
            raise EngineError("gone; load the base anew")
        plain(self, parameter)

    monkeypatch.setattr(Kept, "restore", restore)
    with pytest.raises(EngineError, match="load the base anew"), Engine(changed).attached(MIX, mode="merge"):
        pass
    after = fingerprint(changed)
    assert [name for name in before if before[name] != after[name]] == ["unet.conv_in.weight"]
