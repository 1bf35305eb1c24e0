"""An alpha that stands in the metadata alone is told, with both values, by whoever reads the file."""

import json

import pytest
from safetensors.torch import save_file
from support import everything, network

from loraloom.bases import NANO
from loraloom.catalogue.inspecting import fit, inspect
from loraloom.dialects import by_name, read
from loraloom.dialects.metadata import PEFT_CONFIG

MADE = network(NANO, everything, rank=8, alpha=8)


def written(tmp_path, metadata, dialect="kohya", *, alpha=False):
    """The network without its alphas, or with them."""
    tensors = {
        key: tensor.contiguous()
        for target, adapter in MADE.adapters.items()
        for key, tensor in by_name(dialect).write_tensors(adapter, NANO.by_target[target], NANO).items()
        if alpha or not key.endswith(".alpha")
    }
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata)
    return path


def told(path):
    """What is said of alpha, the same by all who look."""
    found = [
        [text for text in warnings if "alpha" in text] for warnings in (read(path).warnings, inspect(path).warnings, fit(path).warnings)
    ]
    assert len({len(each) for each in found}) == 1
    return found[0]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"ss_network_alpha": "4", "ss_network_dim": "8"}, "alpha 4 (ss_network_alpha), which is 0.5 at the rank 8"),
        ({"ss_network_alpha": "1.0"}, "alpha 1 (ss_network_alpha), and"),
        ({"unet.lora_alpha": "16", "unet.r": "8"}, "alpha 16 (unet.lora_alpha), which is 2 at the rank 8"),
        ({"text_encoder.lora_alpha": "2"}, "alpha 2 (text_encoder.lora_alpha)"),
        ({"lora_alpha": "2", "rank": "8"}, "alpha 2 (lora_alpha), which is 0.25 at the rank 8"),
        ({"network_alpha": "4", "network_dim": "8"}, "alpha 4 (network_alpha), which is 0.5"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dialect", ["kohya", "peft"])
def test_an_alpha_of_the_metadata_without_tensors_is_told_with_both_values(tmp_path, metadata, words, dialect):
    (text,) = told(written(tmp_path, metadata, dialect))
    assert words in text
    assert f"{len(MADE.adapters)} of its modules have no alpha: alpha is the rank there, and the scale 1" in text


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"ss_network_alpha": "8", "ss_network_dim": "8"},
        {"ss_network_alpha": "Dynamic"},
        {"ss_network_alpha": "nan"},
        {"unet.lora_alpha": ""},
    ],
    ids=str,
)
def test_what_says_nothing_else_is_not_told(tmp_path, metadata):
    assert told(written(tmp_path, metadata)) == []


def test_with_alphas_in_the_file_the_metadata_is_only_a_note(tmp_path):
    assert told(written(tmp_path, {"ss_network_alpha": "4", "ss_network_dim": "8"}, alpha=True)) == []


def test_pefts_config_is_what_alpha_is(tmp_path):
    config = {f"{name}.{key}": value for name in ("unet", "text_encoder") for key, value in {"r": 8, "lora_alpha": 4}.items()}
    path = written(tmp_path, {"ss_network_alpha": "4", PEFT_CONFIG: json.dumps(config)}, "peft")
    assert told(path) == []
    linear = [adapter for target, adapter in read(path).adapters.items() if NANO.by_target[target].kind == "linear"]
    assert {float(adapter.alpha) for adapter in linear} == {4.0}
