"""Laws of the kept base: left to its checkpoint where every bit is there, copied where not, and back with every bit."""

import copy
import os

import pytest
import torch
from diffusers import StableDiffusionPipeline
from support import everything, fingerprint, hooks, network

from loraloom.bases import NANO
from loraloom.engine import Engine
from loraloom.engine.keep import Kept
from loraloom.errors import BaseLost, EngineError
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


def in_place(path, how):
    """Other bytes under the same inode, as `cp` and `save_pretrained` write them."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        if how == "cut":
            file.truncate(size // 2)
        else:
            file.seek(size // 2)
            file.write(bytes(size - size // 2))
    os.utime(path, ns=(1, 1))  # a clock may be too coarse to tell two writes of one test apart


@pytest.mark.parametrize("how", ["cut", "overwritten"])
def test_a_checkpoint_that_is_written_into_meanwhile_is_an_error_and_the_base_is_used_no_more(folder, how):
    """In half precision in the file and float32 in memory: no weight of the model is a map of the file itself."""
    opened = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    words = f"{UNET}: was written to while networks were merged .* Load the base again"
    engine = Engine(opened)
    with pytest.raises(BaseLost, match=words), engine.attached(MIX, mode="merge"):
        in_place(folder / UNET, how)
    for attempt in (engine, Engine(opened)):
        with pytest.raises(BaseLost, match=words), attempt.attached(MIX):
            pass
    assert hooks(opened) == 0
    assert "_loraloom_attached" not in vars(opened.unet)


def test_a_checkpoint_that_was_written_into_before_is_copied(folder):
    opened = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    engine, before = Engine(opened), fingerprint(opened)
    with engine.attached(MIX, mode="merge"):
        pass
    in_place(folder / UNET, "overwritten")
    with engine.attached(MIX, mode="merge") as report:
        pass
    assert report.nbytes > 100_000
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
