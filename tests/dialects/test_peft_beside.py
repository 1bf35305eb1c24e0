"""The config beside PEFT's tensors counts however the two are given: it has alpha, which the tensors do not."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support import network

from loraloom.bases import NANO
from loraloom.catalogue import Catalogue
from loraloom.catalogue.inspecting import fit, inspect
from loraloom.converting import convert
from loraloom.dialects import read, write
from loraloom.dialects.folder import CONFIG, PICKLE, WEIGHTS
from loraloom.editing import edit
from loraloom.errors import FileError
from loraloom.tensorfile import Header

ALPHA = 9.0  # of rank 3


@pytest.fixture
def unet(tmp_path):
    """PEFT's folder of a UNet: alpha is in its config alone."""
    path = write(
        network(NANO, lambda layer: layer.attention and not layer.place.is_text, rank=3, alpha=ALPHA), tmp_path / "in", "peft-folder"
    )
    assert not any("alpha" in key for key in load_file(path / WEIGHTS))
    return path


@pytest.fixture
def both(tmp_path):
    return write(network(NANO, rank=3, alpha=ALPHA), tmp_path / "both", "peft-folder")


def pickled(folder):
    """The same as old versions of PEFT wrote it."""
    for path in folder.rglob(WEIGHTS):
        torch.save(load_file(path), path.with_name(PICKLE))
        path.unlink()
    return folder


def alphas(path):
    return {float(adapter.alpha) for adapter in read(path, NANO).adapters.values()}


def renamed(folder):
    return (folder / WEIGHTS).rename(folder / "my style (2).safetensors")


def linked(folder):
    """As the hub's cache has files: links to places without a config."""
    stored = folder.parent / "blobs"
    stored.mkdir()
    for name in (WEIGHTS, CONFIG):
        (folder / name).rename(stored / f"{name}.blob")
        (folder / name).symlink_to(stored / f"{name}.blob")
    return folder / WEIGHTS


def named(folder):
    """PEFT makes a folder for an adapter that has a name of its own."""
    inner = folder.parent / "outer" / "my_style"
    shutil.copytree(folder, inner)
    return inner.parent


WAYS = {
    "folder": lambda folder: folder,
    "file": lambda folder: folder / WEIGHTS,
    "renamed": renamed,
    "linked": linked,
    "adapter with a name": named,
    "safetensors called .bin": lambda folder: (folder / WEIGHTS).rename(folder / PICKLE),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_config_counts_however_the_network_is_given(unet, tmp_path, way):
    path = WAYS[way](unet)
    assert alphas(path) == {ALPHA}
    assert inspect(path).alpha_from == "alpha from its config"
    assert fit(path, NANO).verdict == "whole"
    assert convert(path, tmp_path / "out.safetensors", base=NANO).modules
    assert alphas(tmp_path / "out.safetensors") == {ALPHA}
    with pytest.raises(FileError, match="make one file of it first"):
        edit(path, tmp_path / "edited.safetensors", changes={"modelspec.title": "x"})


@pytest.mark.parametrize("way", ["folder", "file"])
def test_a_pickle_is_converted_with_its_config(unet, tmp_path, way):
    folder = pickled(unet)
    found = convert(folder if way == "folder" else folder / PICKLE, tmp_path / "out.safetensors", base=NANO)
    assert (found.left_out, alphas(found.path)) == ((), {ALPHA})


def test_a_folder_of_pickles_for_each_component_is_one_network(both, tmp_path):
    folder = pickled(both)
    made = convert(folder, tmp_path / "out.safetensors", base=NANO).path
    assert {target.component for target in read(made).adapters} == {"unet", "text_encoder"}
    assert alphas(made) == {ALPHA}
    alone = convert(folder / "text_encoder" / PICKLE, tmp_path / "text.safetensors", base=NANO).path
    assert {target.component for target in read(alone).adapters} == {"text_encoder"}


def test_a_folder_of_pickles_says_what_opens_it_and_that_works(unet, tmp_path):
    folder = pickled(unet)
    with pytest.raises(FileError, match=rf"adapter_model.bin.*loraloom convert {folder} NEW.safetensors"):
        read(folder, NANO)
    assert alphas(convert(folder, tmp_path / "NEW.safetensors", base=NANO).path) == {ALPHA}


def test_several_adapters_in_one_folder_are_named(unet, tmp_path):
    for name in ("ink", "neon"):
        shutil.copytree(unet, tmp_path / "outer" / name)
    with pytest.raises(FileError, match="2 networks, in ink, neon"):
        read(tmp_path / "outer", NANO)


def test_a_config_beside_other_files_says_nothing_of_them(unet):
    """A library may hold anything."""
    other = write(network(NANO, rank=3, alpha=2), unet / "ink.safetensors")
    assert alphas(other) == {2.0}


def test_the_library_knows_of_the_config(unet):
    """Two folders with the same tensors, of which one says that they are not all."""
    second = unet.parent / "second"
    shutil.copytree(unet, second)
    config = json.loads((second / CONFIG).read_text())
    (second / CONFIG).write_text(json.dumps(config | {"init_lora_weights": "corda"}))
    catalogue = Catalogue((unet.parent,))
    problems = {item.path.parent.name: catalogue.facts(item).problem for item in catalogue.items}
    assert problems["in"] == ""
    assert "init_lora_weights = 'corda'" in problems["second"]
    assert Header.read(unet / WEIGHTS).entries.keys() == Header.read(second / WEIGHTS).entries.keys()
