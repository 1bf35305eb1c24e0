"""Types that need the base's weights get them from its files, without a pipeline, and the same ones as an opened base has."""

import pytest
import torch
from cases import CASES

from layouts import saved
from loraloom import Session, dialects, read
from loraloom.bases import NANO, TINY
from loraloom.bases.nano.model import load
from loraloom.combine import CombineRequest
from loraloom.errors import BaseError
from loraloom.lorafile import LoraFile


def network(base, path):
    """DoRA on some layers of every component."""
    torch.manual_seed(5)
    path.parent.mkdir()
    layers = [layer for layer in base.layers if layer.kind == "linear"][::6]
    dialects.write(LoraFile({layer.target: CASES["dora"](layer.shape) for layer in layers}, {}, base.family), path)


def closed(*_):
    raise AssertionError("a pipeline was opened")


@pytest.mark.parametrize("layout", ["folder", "single file"])
def test_a_base_on_the_disk_is_not_opened(tmp_path, monkeypatch, layout):
    network(NANO, tmp_path / "loras" / "dora.safetensors")
    session = Session(lora_folders=[tmp_path / "loras"])
    session.extract(CombineRequest(mix="<lora:dora:0.8>", base="nano"), tmp_path / "opened.safetensors")
    base = saved(load(), NANO, tmp_path / "base.safetensors", layout)
    monkeypatch.setattr("loraloom.session.bases.open_pipeline", closed)
    session.extract(CombineRequest(mix="<lora:dora:0.8>", base=str(base)), tmp_path / "read.safetensors")
    opened, found = (read(tmp_path / f"{name}.safetensors") for name in ("opened", "read"))
    assert opened.adapters.keys() == found.adapters.keys()
    assert all(torch.equal(opened.adapters[target].diff, adapter.diff) for target, adapter in found.adapters.items())


def test_the_embedded_base_is_read_from_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("loraloom.session.bases.open_pipeline", closed)
    network(TINY, tmp_path / "loras" / "dora.safetensors")
    found = Session(lora_folders=[tmp_path / "loras"]).extract(
        CombineRequest(mix="<lora:dora:1>", base="tiny", rank=4), tmp_path / "x.safetensors"
    )
    assert set(found.types) == {"lora"}


def test_a_base_that_cannot_be_read_is_opened_and_says_what_it_is(tmp_path, make_lora):
    make_lora(tmp_path / "loras" / "ink.safetensors")
    (tmp_path / "folder").mkdir()
    session = Session(lora_folders=[tmp_path / "loras"])
    with pytest.raises(BaseError, match="not a base model in diffusers' layout"):
        session.extract(CombineRequest(mix="<lora:ink:1>", base=str(tmp_path / "folder")), tmp_path / "x.safetensors")
