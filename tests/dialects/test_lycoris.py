"""LyCORIS is the judge of its types: what it saves loads here, what we write loads there, with the same output.

Tolerance: 1e-5 of the largest output in float32 (product.md §6). Its known errors are named: IA3 cannot be loaded there.
"""

import copy
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from judging import attached, outputs, randomise
from lycoris import LycorisNetwork, create_lycoris, create_lycoris_from_weights
from lycoris.config import PRESET
from lycoris.kohya import LycorisNetworkKohya, create_network, create_network_from_weights
from support import close
from torch import nn

from loraloom.bases import NANO
from loraloom.bases.nano.model import load
from loraloom.dialects import read, write
from loraloom.lorafile import LoraFile

ALGOS = {
    "lora": {"algo": "lora"},
    "locon": {"algo": "locon", "conv_dim": 2, "conv_alpha": 1},
    "locon tucker": {"algo": "locon", "use_tucker": True},
    "loha": {"algo": "loha"},
    "loha tucker": {"algo": "loha", "use_tucker": True},
    "lokr": {"algo": "lokr", "factor": 4},
    "lokr full": {"algo": "lokr", "full_matrix": True},
    "lokr both": {"algo": "lokr", "factor": 4, "decompose_both": True},
    "lokr tucker": {"algo": "lokr", "use_tucker": True, "factor": 2},
    "glora": {"algo": "glora"},
    "full": {"algo": "full"},
    "ia3": {"algo": "ia3"},
    "oft": {"algo": "diag-oft"},
    "oft constrained": {"algo": "diag-oft", "constraint": 0.01},
    "oft rescaled": {"algo": "diag-oft", "rescaled": True},
    "boft": {"algo": "boft"},
    "dora": {"algo": "lora", "dora_wd": True},
    "dora of columns": {"algo": "lora", "dora_wd": True, "wd_on_output": False},
    "dora of loha": {"algo": "loha", "dora_wd": True},
    "dora of lokr": {"algo": "lokr", "dora_wd": True, "factor": 4},
    "norm": {"algo": "lora", "train_norm": True},
}

# Errors of its own loader: it raises for IA3 and for the magnitudes of columns, and takes the wrong side for a core's rank.
UNLOADABLE = ("ia3", "dora of columns", "lokr tucker")


@pytest.fixture(scope="module")
def clean():
    return load()


@pytest.fixture(scope="module")
def before(clean):
    """What the base puts out."""
    return outputs(clean)


@pytest.fixture(autouse=True)
def fresh_presets(monkeypatch):
    """A preset changes LyCORIS' classes for the whole process. Its usual one takes the time embedding of a UNet twice, by class and
    by name, and fails on that; without the class its trainer's targets are those of kohya."""
    for place in (PRESET["full"], vars(LycorisNetworkKohya)):
        key = next(name for name in ("unet_target_module", "UNET_TARGET_REPLACE_MODULE") if name in place)
        left = [name for name in place[key] if name != "TimestepEmbedding"]
        if place is PRESET["full"]:
            monkeypatch.setitem(PRESET["full"], key, left)
        else:
            monkeypatch.setattr(LycorisNetworkKohya, key, left)
    names = {kind: [name for name in vars(kind) if name.isupper()] for kind in (LycorisNetwork, LycorisNetworkKohya)}
    kept = {kind: {name: getattr(kind, name) for name in names[kind]} for kind in names}
    yield
    for kind, values in kept.items():
        for name, value in values.items():
            setattr(kind, name, value)


class Saved(NamedTuple):
    path: Path
    modules: int
    outputs: list[torch.Tensor]  # of the model with the network, as its trainer runs it


@pytest.fixture(scope="module")
def of_trainer(clean, tmp_path_factory):
    """By algorithm, trained once: what the kohya network saves. A width of 24 has no butterfly of a power of 2, so BOFT's is of the
    UNet alone."""

    def make(algo: str) -> Saved:
        pipeline = copy.deepcopy(clean)
        encoder = nn.Sequential() if algo == "boft" else pipeline.text_encoder
        network = create_network(1.0, 4, 3, None, encoder, pipeline.unet, **ALGOS[algo])
        network.apply_to(text_encoder=encoder, unet=pipeline.unet, apply_text_encoder=True, apply_unet=True)
        return saved(network, pipeline, tmp_path_factory.mktemp("trainer"), len(network.unet_loras) + len(network.text_encoder_loras))

    return cache(make)


@pytest.fixture(scope="module")
def of_wrapper(clean, tmp_path_factory):
    """By algorithm, trained once: what the wrapper of a UNet saves."""

    def make(algo: str) -> Saved:
        pipeline = copy.deepcopy(clean)
        network = create_lycoris(pipeline.unet, 1.0, linear_dim=4, linear_alpha=3, **ALGOS[algo])
        network.apply_to()
        return saved(network, pipeline, tmp_path_factory.mktemp("wrapper"), len(network.loras))

    return cache(make)


def saved(network, pipeline, folder: Path, modules: int) -> Saved:
    """The network that was applied, with random values, saved as its trainer saves it."""
    randomise(network)
    network.eval()
    path = folder / "x.safetensors"
    network.save_weights(str(path), None, {})
    return Saved(path, modules, outputs(pipeline))


@pytest.mark.parametrize("algo", ALGOS)
def test_what_its_kohya_network_saves_loads_here_with_its_output(clean, before, of_trainer, algo):
    given = of_trainer(algo)
    file = read(given.path, NANO)
    assert (file.dialect, file.unknown, len(file.adapters)) == ("kohya", (), given.modules)
    assert not close(before[-1], given.outputs[-1], 1e-2)
    for mode in ("merge", "branch"):
        assert all(close(found, wanted) for found, wanted in zip(attached(clean, file, mode), given.outputs, strict=True))


# The wrapper's modules are those of the kohya network, under other names: the other algorithms are for the long run.
WRAPPED = ("locon tucker", "loha", "lokr both", "full", "ia3", "oft rescaled", "dora of lokr", "norm")


def few(algos):
    return [algo if algo in WRAPPED else pytest.param(algo, marks=pytest.mark.long) for algo in algos]


@pytest.mark.parametrize("algo", few(ALGOS))
def test_what_its_own_wrapper_saves_of_a_unet_loads_here_with_its_output(clean, before, of_wrapper, algo):
    given = of_wrapper(algo)
    file = read(given.path, NANO)
    assert (file.dialect, file.unknown, len(file.adapters)) == ("lycoris", (), given.modules)
    assert not close(before[-1], given.outputs[-1], 1e-2)
    assert all(close(found, wanted) for found, wanted in zip(attached(clean, file), given.outputs, strict=True))


class Named(nn.Module):
    """The text encoder under the name that files give its modules, which transformers 5 dropped."""

    def __init__(self, encoder) -> None:
        super().__init__()
        self.text_model = encoder


LOADS = [name for name in ALGOS if name not in UNLOADABLE]


@pytest.mark.parametrize("algo", LOADS)
def test_what_we_write_loads_in_its_kohya_network_with_our_output(clean, before, of_trainer, tmp_path, algo):
    """Files of its own making, read and written again: its loader builds each module by its own rules for sizes."""
    file = read(of_trainer(algo).path, NANO)
    path = write(file, tmp_path / "y.safetensors", "kohya", dtype=torch.float32)
    judge = copy.deepcopy(clean)
    again, _ = create_network_from_weights(1.0, str(path), None, Named(judge.text_encoder), judge.unet)
    assert len(again.unet_loras) + len(again.text_encoder_loras) == len(file.adapters)
    compare(clean, before, judge, again.unet_loras + again.text_encoder_loras, read(path))


@pytest.mark.parametrize("algo", few(LOADS))
def test_what_we_write_of_a_unet_loads_in_its_wrapper_with_our_output(clean, before, of_wrapper, tmp_path, algo):
    file = read(of_wrapper(algo).path, NANO)
    path = write(file, tmp_path / "y.safetensors", "lycoris", dtype=torch.float32)
    judge = copy.deepcopy(clean)
    again, _ = create_lycoris_from_weights(1.0, str(path), judge.unet)
    assert len(again.loras) == len(file.adapters)
    compare(clean, before, judge, again.loras, read(path))


def compare(clean, before, judge, modules, file: LoraFile) -> None:
    ours = attached(clean, file)
    for module in modules:
        module.eval()
        module.apply_to()
    assert not close(before[-1], ours[-1], 1e-2)
    assert all(close(found, wanted) for found, wanted in zip(outputs(judge), ours, strict=True))
