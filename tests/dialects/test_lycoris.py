"""LyCORIS is the judge of its types: what it saves loads here, what we write loads there, with the same output.

Tolerance: 1e-5 of the largest output in float32 (product.md §6). Its known errors are named: IA3 cannot be loaded there.
"""

import copy

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


@pytest.fixture
def pipeline(clean):
    return copy.deepcopy(clean)


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


def of_trainer(pipeline, algo):
    """The network and how it is applied. A width of 24 has no butterfly of a power of 2, so BOFT's is of the UNet alone."""
    encoder = nn.Sequential() if algo == "boft" else pipeline.text_encoder
    network = create_network(1.0, 4, 3, None, encoder, pipeline.unet, **ALGOS[algo])
    return network, {"text_encoder": encoder, "unet": pipeline.unet, "apply_text_encoder": True, "apply_unet": True}


def trained(network, path, **options):
    """The network applied, with random values, saved as its trainer saves it."""
    network.apply_to(**options)
    randomise(network)
    network.eval()
    network.save_weights(str(path), None, {})
    return path


@pytest.mark.parametrize("algo", ALGOS)
def test_what_its_kohya_network_saves_loads_here_with_its_output(clean, pipeline, tmp_path, algo):
    network, options = of_trainer(pipeline, algo)
    path = trained(network, tmp_path / "x.safetensors", **options)
    expected, before = outputs(pipeline), outputs(clean)
    file = read(path, NANO)
    assert (file.dialect, file.unknown) == ("kohya", ())
    assert len(file.adapters) == len(network.unet_loras) + len(network.text_encoder_loras)
    assert not close(before[-1], expected[-1], 1e-2)
    for mode in ("merge", "branch"):
        assert all(close(found, wanted) for found, wanted in zip(attached(clean, file, mode), expected, strict=True))


@pytest.mark.parametrize("algo", ALGOS)
def test_what_its_own_wrapper_saves_of_a_unet_loads_here_with_its_output(clean, pipeline, tmp_path, algo):
    network = create_lycoris(pipeline.unet, 1.0, linear_dim=4, linear_alpha=3, **ALGOS[algo])
    path = trained(network, tmp_path / "x.safetensors")
    expected, before = outputs(pipeline), outputs(clean)
    file = read(path, NANO)
    assert (file.dialect, file.unknown, len(file.adapters)) == ("lycoris", (), len(network.loras))
    assert not close(before[-1], expected[-1], 1e-2)
    assert all(close(found, wanted) for found, wanted in zip(attached(clean, file), expected, strict=True))


class Named(nn.Module):
    """The text encoder under the name that files give its modules, which transformers 5 dropped."""

    def __init__(self, encoder) -> None:
        super().__init__()
        self.text_model = encoder


LOADS = [name for name in ALGOS if name not in UNLOADABLE]


@pytest.mark.parametrize("algo", LOADS)
def test_what_we_write_loads_in_its_kohya_network_with_our_output(clean, pipeline, tmp_path, algo):
    """Files of its own making, read and written again: its loader builds each module by its own rules for sizes."""
    network, options = of_trainer(pipeline, algo)
    file = read(trained(network, tmp_path / "x.safetensors", **options), NANO)
    path = write(file, tmp_path / "y.safetensors", "kohya", dtype=torch.float32)
    judge = copy.deepcopy(clean)
    again, _ = create_network_from_weights(1.0, str(path), None, Named(judge.text_encoder), judge.unet)
    assert len(again.unet_loras) + len(again.text_encoder_loras) == len(file.adapters)
    compare(clean, judge, again.unet_loras + again.text_encoder_loras, read(path))


@pytest.mark.parametrize("algo", LOADS)
def test_what_we_write_of_a_unet_loads_in_its_wrapper_with_our_output(clean, pipeline, tmp_path, algo):
    network = create_lycoris(pipeline.unet, 1.0, linear_dim=4, linear_alpha=3, **ALGOS[algo])
    file = read(trained(network, tmp_path / "x.safetensors"), NANO)
    path = write(file, tmp_path / "y.safetensors", "lycoris", dtype=torch.float32)
    judge = copy.deepcopy(clean)
    again, _ = create_lycoris_from_weights(1.0, str(path), judge.unet)
    assert len(again.loras) == len(file.adapters)
    compare(clean, judge, again.loras, read(path))


def compare(clean, judge, modules, file: LoraFile) -> None:
    ours, before = attached(clean, file), outputs(clean)
    for module in modules:
        module.eval()
        module.apply_to()
    assert not close(before[-1], ours[-1], 1e-2)
    assert all(close(found, wanted) for found, wanted in zip(outputs(judge), ours, strict=True))
