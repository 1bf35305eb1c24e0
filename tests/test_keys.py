"""The key lists of real files under tests/keys: every tensor is applied or reported, on real models of full size.

The models are diffusers' and transformers' own classes on the meta device; a list becomes a file again without its data.
"""

import gzip
import json
import struct
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import diffusers
import pytest
import torch
import transformers

from loraloom import dialects
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
    told: bool = True  # False: it has nothing that tells its family, and the product must say so


EXPECTED: dict[str, Expected] = {
    "ai_toolkit_sd1_conv": Expected("kohya", {"lora": 350}),
    "ai_toolkit_sdxl": Expected("kohya", {"lora": 986}),
    "ai_toolkit_sdxl_dora": Expected("kohya", {"lora+dora": 986}),
    "ai_toolkit_sdxl_peft_format": Expected("peft", {"lora": 722}),
    "cloneofsimo_sd2_embedding": Expected("cloneofsimo", {"lora": 236}, reported=1),
    "diffusers_old_sd1_attn_procs": Expected("old-diffusers", {"lora": 128}),
    "diffusers_old_sd1_dreambooth_text": Expected("old-diffusers", {"lora": 176}),
    "diffusers_old_sdxl_dreambooth_text": Expected("old-diffusers", {"lora": 736}),
    "diffusers_sd1_dreambooth_text": Expected("peft", {"lora": 176}),
    "diffusers_sdxl_converted_to_kohya": Expected("kohya", {"lora": 560}),
    "diffusers_sdxl_converted_to_kohya_text": Expected("kohya", {"lora": 736}),
    "diffusers_sdxl_dora": Expected("peft", {"lora+dora": 560}),
    "diffusers_sdxl_dreambooth_text": Expected("peft", {"lora": 736}),
    "diffusers_sdxl_lcm_distilled": Expected("peft", {"lora": 788}),
    "kohya_sd1_attention_text": Expected("kohya", {"lora": 264}),
    "kohya_sdxl_diffusers_names": Expected("kohya", {"lora": 794}),
    "kohya_sdxl_oft": Expected("kohya", {"oft": 560}),
    "lycoris_0_1_sd1_ia3": Expected("kohya", {"ia3": 116}),
    "lycoris_0_1_sd1_loha": Expected("kohya", {"loha": 350}),
    "lycoris_1_9_sd1_full": Expected("kohya", {"full": 88}, told=False),  # SD 1.x and 2.x have the same convolutions
    "lycoris_1_9_sd1_glora": Expected("kohya", {"glora": 302}),
    "lycoris_2_2_sd1_diag_oft": Expected("kohya", {"oft": 354}),
    "lycoris_2_2_sdxl_dora_input_axis": Expected("kohya", {"lora+dora": 1052}),
    "lycoris_3_0_sd1_diag_oft": Expected("kohya", {"oft": 264}),
    "lycoris_3_0_sd1_glora": Expected("kohya", {"glora": 264}),
    "lycoris_3_0_sd2_dora_loha": Expected("kohya", {"loha+dora": 330}),
    "lycoris_sd1_boft": Expected("kohya", {"boft": 194}, told=False),  # and the same outputs
    "lycoris_sd1_diag_oft": Expected("kohya", {"oft": 354}),
    "lycoris_sd1_dora": Expected("kohya", {"lora+dora": 354}),
    "lycoris_sd1_dylora": Expected("kohya", {"lora": 266}),
    "lycoris_sd1_glora": Expected("kohya", {"glora": 266}),
    "lycoris_sd1_locon_full": Expected("kohya", {"lora": 354}),
    "lycoris_sd1_loha_tucker": Expected("kohya", {"loha": 354}),
    "lycoris_sd1_lokr_both_tucker": Expected("kohya", {"lokr": 354}),
    "lycoris_sd1_lokr_full_matrix": Expected("kohya", {"lokr": 354}),
    "lycoris_sd1_norm": Expected("kohya", {"lora": 354, "norm": 108}),
    "lycoris_sd2_full": Expected("kohya", {"full": 88}, told=False),
    "lycoris_sd2_loha": Expected("kohya", {"loha": 332}),
    "lycoris_sdxl_convblock": Expected("kohya", {"lora": 66}),
    "lycoris_sdxl_diag_oft_rescaled": Expected("kohya", {"oft": 722}),
    "lycoris_sdxl_dora_loha_input_axis": Expected("kohya", {"loha+dora": 1052}),
    "lycoris_sdxl_locon_tucker": Expected("kohya", {"lora": 1052}),
    "lycoris_sdxl_loha_conv_text": Expected("kohya", {"loha": 1052}),
    "lycoris_sdxl_lokr": Expected("kohya", {"lokr": 1052}),
    "lycoris_sdxl_lokr_dora": Expected("kohya", {"lokr+dora": 986}),
    "lycoris_standalone_sd1_text_transformers5": Expected("lycoris", {"loha": 72}),
    "peft_sd1_dora_conv": Expected("peft-folder", {"lora+dora": 150}),
    "peft_sd1_ia3": Expected("peft-folder", {"ia3": 80}, told=False),
    "peft_sd1_loha": Expected("peft-folder", {"loha": 150}),
    "peft_sd1_lokr": Expected("peft-folder", {"lokr": 150}),
    "peft_sd1_oft": Expected("peft-folder", {"oft-onetrainer": 128}),
    "peft_sd1_unet": Expected("peft-folder", {"lora": 188}),
    "peft_sd2_text_encoder": Expected("peft-folder", {"lora": 138}),
    "simpletuner_sdxl_comfyui_format": Expected("ai-toolkit", {"lora": 560}),  # ComfyUI itself has the original names
    "simpletuner_sdxl_lokr": Expected("lycoris", {"lokr": 560}),
}
REFUSED: dict[str, str] = {  # files of which nothing can be used, and a part of what is said of them
    "lycoris_sd1_tlora": "T-LoRA",
    "peft_sd1_boft": "boft_R",
}

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


class Case(NamedTuple):
    name: str
    header: Header
    base: Base
    match: Match


@pytest.fixture(params=sorted(EXPECTED), scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name: str = request.param
    header, base = Header.read(rebuild(name, tmp_path_factory.mktemp("keys"))), base_of(record(name)["family"])
    return Case(name, header, base, dialects.match(header, base))


def test_every_tensor_is_applied_or_reported_with_a_reason(case):
    applied = [key for keys in case.match.groups.values() for key in keys]
    reasons = dict(reported(case))
    assert Counter([*applied, *case.match.words, *reasons]) == Counter(record(case.name)["keys"].keys())
    assert len(reasons) == len(case.match.unknown) == EXPECTED[case.name].reported, case.match.unknown[:3]
    assert len(case.match.words) == EXPECTED[case.name].words
    assert all(reason and EXPECTED[case.name].because in reason for reason in reasons.values())


def reported(case: Case) -> Iterator[tuple[str, str]]:
    """Key and reason of each reported tensor. Keys may have colons, so the longest that fits is meant."""
    for line in case.match.unknown:
        parts = line.split(": ")
        heads = [": ".join(parts[:count]) for count in range(1, len(parts))]
        key = max((head for head in heads if head in case.header.entries), key=len)
        yield key, line.removeprefix(f"{key}: ")


def test_dialect_and_types_are_recognised(case):
    found = dict(Counter(kind.name for kind in case.match.kinds.values()))
    assert (case.match.dialect.name, found) == (EXPECTED[case.name].dialect, EXPECTED[case.name].types)


def test_the_family_is_recognised_or_said_to_be_unknown(case):
    family = record(case.name)["family"] if EXPECTED[case.name].told else None
    found = dialects.detect(case.header.shapes, case.header.metadata)
    assert (found.family, found.contradictions) == (family, ())
    assert dialects.detect(case.header.shapes, {}).family == family, "by names and shapes alone"


def test_every_target_is_a_module_of_the_real_model_and_fits_it(case):
    modules = live(case.base.family)
    for target in case.match.groups:
        assert target in modules, f"{target} is not in the model"
        assert tuple(modules[target].weight.shape) == case.base.by_target[target].shape


def test_a_file_reads_whole(case):
    """Every adapter is built, so what a dialect mends on the way is seen too."""
    if case.header.file_size > READ_WHOLE:
        pytest.skip(f"{case.header.file_size:,} bytes")
    file = dialects.read(case.header.path, None if EXPECTED[case.name].told else case.base)
    assert (file.base, file.dialect) == (case.base.family, EXPECTED[case.name].dialect)
    assert dict(Counter(adapter.name for adapter in file.adapters.values())) == EXPECTED[case.name].types
    for target, adapter in file.adapters.items():
        shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
        assert type(adapter).misfit(shapes, case.base.by_target[target].shape) is None, str(target)


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
