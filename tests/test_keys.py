"""The key lists of real files under tests/keys: every tensor is applied or reported, on real models of full size.

The models are diffusers' and transformers' own classes on the meta device; a list becomes a file again without its data.
"""

import gzip
import json
import struct
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import diffusers
import pytest
import torch
import transformers

from loraloom import dialects
from loraloom.adapters import adapter_type
from loraloom.bases import Base, Target
from loraloom.bases.detect import by_family
from loraloom.dialects import Match
from loraloom.engine.live import live_modules, recognise
from loraloom.errors import NothingApplied
from loraloom.tensorfile import BYTES, Header

FOLDER = Path(__file__).parent / "keys"
READ_WHOLE = 64 * 2**20  # bytes; larger files are matched by their headers only


class Expected(NamedTuple):
    """What the product must make of one file. README.md says how a case gets here."""

    dialect: str
    types: dict[str, int]  # adapters by type
    reported: int = 0  # tensors that become no adapter
    words: int = 0  # tensors of embeddings that come with the file
    because: str = ""  # a part of the reason of every reported tensor


EXPECTED: dict[str, Expected] = {
    "cloneofsimo_sd2_embedding": Expected("cloneofsimo", {"lora": 236}, reported=1),
    "kohya_sd1_attention_text": Expected("kohya", {"lora": 264}),
    "kohya_sdxl_diffusers_names": Expected("kohya", {"lora": 794}),
    "lycoris_sdxl_loha_conv_text": Expected("kohya", {"loha": 1052}),
}
REFUSED: dict[str, str] = {}  # files of which nothing can be used, and a part of what is said of them

_SDXL_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
_UNETS: dict[str, dict[str, Any]] = {  # the config.json of the published models, where it differs from the class's defaults
    "sd1": {"cross_attention_dim": 768},
    "sd2": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": _SDXL_BLOCKS,
        "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(_SDXL_BLOCKS)),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
_TEXTS = {"sd1": [(768, 12, 12)], "sd2": [(1024, 23, 16)], "sdxl": [(768, 12, 12), (1280, 32, 20)]}  # width, layers, heads


def names() -> list[str]:
    return sorted(path.name.removesuffix(".gz").removesuffix(".json") for path in FOLDER.glob("*.json*"))


@cache
def record(name: str) -> dict[str, Any]:
    plain = FOLDER / f"{name}.json"
    found: dict[str, Any] = json.loads(plain.read_bytes() if plain.exists() else gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return found


def rebuild(name: str, folder: Path) -> Path:
    """The file that the list was taken from, with zeros for its data: a hole, which takes no room on the disk."""
    entries, end = {}, 0
    for key, (dtype, shape) in record(name)["keys"].items():
        size = BYTES[dtype] * torch.Size(shape).numel()
        entries[key] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    metadata = {"__metadata__": record(name)["metadata"]} if record(name)["metadata"] else {}
    header = json.dumps(metadata | entries).encode()
    path = folder / f"{name}.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    return path


@cache
def live(family: str) -> dict[Target, torch.nn.Module]:
    """Every module of the family's published model that takes an adapter."""
    with torch.device("meta"):
        parts: dict[str, torch.nn.Module] = {"unet": diffusers.UNet2DConditionModel(**_UNETS[family])}
        for index, (width, layers, heads) in enumerate(_TEXTS[family]):
            config = transformers.CLIPTextConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                projection_dim=width,
            )
            kind = transformers.CLIPTextModelWithProjection if index else transformers.CLIPTextModel
            parts["text_encoder_2" if index else "text_encoder"] = kind(config)
    pipeline = SimpleNamespace(**parts)
    assert recognise(pipeline).family == family
    return live_modules(pipeline, base_of(family))


def base_of(family: str) -> Base:
    base = by_family(family)
    assert base is not None, f"no base of the family {family}"
    return base


def types(match: Match, header: Header) -> dict[str, int]:
    found: Counter[str] = Counter()
    for keys in match.groups.values():
        kind = adapter_type({suffix: header.entries[key].shape for key, suffix in keys.items()})
        assert kind is not None
        found[kind.name] += 1
    return dict(found)


@pytest.fixture(params=sorted(EXPECTED))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Header]:
    return request.param, Header.read(rebuild(request.param, tmp_path))


def test_every_tensor_is_applied_or_reported_with_a_reason(case):
    name, header = case
    match = dialects.match(header, base_of(record(name)["family"]))
    applied = [key for keys in match.groups.values() for key in keys]
    reported = {key: line.removeprefix(f"{key}: ") for line in match.unknown for key in header.entries if line.startswith(f"{key}: ")}
    assert Counter([*applied, *match.words, *reported]) == Counter(dict.fromkeys(record(name)["keys"], 1))
    assert len(reported) == len(match.unknown) == EXPECTED[name].reported, match.unknown[:3]
    assert len(match.words) == EXPECTED[name].words
    assert all(reason and EXPECTED[name].because in reason for reason in reported.values())


def test_dialect_and_types_are_recognised(case):
    name, header = case
    match = dialects.match(header, base_of(record(name)["family"]))
    assert (match.dialect.name, types(match, header)) == (EXPECTED[name].dialect, EXPECTED[name].types)


def test_the_family_is_recognised(case):
    name, header = case
    found = dialects.detect(header.shapes, header.metadata)
    assert (found.family, found.contradictions) == (record(name)["family"], ())
    assert dialects.detect(header.shapes, {}).family == record(name)["family"], "by names and shapes alone"


def test_every_target_is_a_module_of_the_real_model_and_fits_it(case):
    name, header = case
    family = record(name)["family"]
    modules = live(family)
    for target, keys in dialects.match(header, base_of(family)).groups.items():
        shapes = {suffix: header.entries[key].shape for key, suffix in keys.items()}
        kind = adapter_type(shapes)
        assert target in modules, f"{target} is not in the model"
        assert kind is not None
        assert kind.misfit(shapes, tuple(modules[target].weight.shape)) is None, str(target)


def test_a_file_reads_whole(case):
    """Every adapter is built, so what a dialect mends on the way is seen too."""
    name, header = case
    if header.file_size > READ_WHOLE:
        pytest.skip(f"{header.file_size:,} bytes")
    file = dialects.read(header.path)
    assert (file.base, file.dialect) == (record(name)["family"], EXPECTED[name].dialect)
    assert dict(Counter(adapter.name for adapter in file.adapters.values())) == EXPECTED[name].types
    for target, adapter in file.adapters.items():
        shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
        assert type(adapter).misfit(shapes, base_of(file.base).by_target[target].shape) is None, str(target)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_used_is_refused_with_a_reason(name, tmp_path):
    header = Header.read(rebuild(name, tmp_path))
    with pytest.raises(NothingApplied, match=REFUSED[name]):
        dialects.match(header, base_of(record(name)["family"]))


def test_every_list_has_its_expectation():
    assert names() == sorted([*EXPECTED, *REFUSED]), "README.md of tests/keys says what to add"


@pytest.mark.parametrize("name", names())
def test_a_list_has_the_form_of_a_report(name):
    found = record(name)
    assert {"source", "family", "metadata", "keys"} <= found.keys()
    assert found["source"]
    assert list(found["keys"]) == sorted(found["keys"])
    assert all(isinstance(value, str) for value in found["metadata"].values())
    assert not any(text.startswith(("/", "~", "\\")) or ":\\" in text for text in found["metadata"].values()), (
        "a path of somebody's machine"
    )


def test_the_corpus_stays_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2**20
