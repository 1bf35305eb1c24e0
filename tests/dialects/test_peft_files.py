"""PEFT is the judge of its folders: what it saves loads here, what we write loads there, with the same output.

Tolerance: 1e-5 of the largest output in float32 (product.md §6).
"""

import copy
import json

import peft
import pytest
import torch
from judging import attached, outputs, randomise
from support import close, everything, network
from test_matrix import of_type

from loraloom.adapters import DoRA, LoHa, LoRA
from loraloom.bases import NANO, Target
from loraloom.bases.nano.model import load
from loraloom.dialects import read, write
from loraloom.dialects.folder import CONFIG, WEIGHTS
from loraloom.errors import DialectCannotHold, FileError, LimitExceeded, NothingApplied, UnknownFormat, WriteFailed
from loraloom.lorafile import LoraFile

UNET = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1", "ff.net.2", "conv_in"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]
PATTERNS = {"rank_pattern": {"to_k": 2, "attn1.to_q": 3}, "alpha_pattern": {"to_k": 5, "attn2.to_v": 1}}
CONFIGS = {
    "lora": lambda **o: peft.LoraConfig(r=4, lora_alpha=7, **o),
    "lora with patterns": lambda **o: peft.LoraConfig(r=4, lora_alpha=6, **PATTERNS, **o),
    "rslora": lambda **o: peft.LoraConfig(r=4, lora_alpha=3, use_rslora=True, **o),
    "bias": lambda **o: peft.LoraConfig(r=4, lora_alpha=6, lora_bias=True, **o),
    "dora": lambda **o: peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, **o),
    "loha": lambda **o: peft.LoHaConfig(r=4, alpha=6, **o),
    "loha with patterns": lambda **o: peft.LoHaConfig(r=4, alpha=6, **PATTERNS, **o),
    "loha with cores": lambda **o: peft.LoHaConfig(r=4, alpha=6, use_effective_conv2d=True, **o),
    "lokr": lambda **o: peft.LoKrConfig(r=2, alpha=6, **o),
    "lokr in full": lambda **o: peft.LoKrConfig(r=16, alpha=6, **o),
    "lokr of both": lambda **o: peft.LoKrConfig(r=1, alpha=6, decompose_both=True, decompose_factor=4, **o),
    "lokr with cores": lambda **o: peft.LoKrConfig(r=1, alpha=6, use_effective_conv2d=True, **o),
    "lokr with patterns": lambda **o: peft.LoKrConfig(r=16, alpha=6, **PATTERNS, **o),
    "oft": lambda **o: peft.OFTConfig(oft_block_size=4, **o),
}


@pytest.fixture(scope="module")
def clean():
    return load()


@pytest.fixture(scope="module")
def before(clean):
    """What the base puts out."""
    return outputs(clean)


@pytest.fixture
def pipeline(clean):
    return copy.deepcopy(clean)


# A folder of a UNet alone is another layout, whatever type is in it.
LAYOUTS = [
    pytest.param(
        config,
        text,
        id=f"{config}-{'with text encoder' if text else 'unet only'}",
        marks=() if text or config in ("lora", "loha") else pytest.mark.long,
    )
    for text in (True, False)
    for config in CONFIGS
]


@pytest.mark.parametrize(("config", "text"), LAYOUTS)
def test_what_peft_saves_loads_here_with_its_output(clean, before, pipeline, tmp_path, config, text):
    """Its OFT sums overlapping patches on kernels of several points, which is no change of a weight: those are left out."""
    targets = [name for name in UNET if config != "oft" or not name.startswith("conv")]
    unet = peft.get_peft_model(pipeline.unet, CONFIGS[config](target_modules=targets))
    randomise(unet)
    folder = tmp_path
    if text:
        encoder = peft.get_peft_model(pipeline.text_encoder, CONFIGS[config.split(" with ")[0]](target_modules=TEXT))
        randomise(encoder)
        encoder.save_pretrained(tmp_path / "text_encoder")
        folder = tmp_path / "unet"
    unet.save_pretrained(folder)
    expected = outputs(pipeline)
    file = read(tmp_path, NANO)
    assert (file.base, file.dialect, file.unknown) == ("nano", "peft-folder", ())
    assert not close(before[-1], expected[-1], 1e-2)
    for mode in ("merge", "branch"):
        assert all(close(found, wanted) for found, wanted in zip(attached(clean, file, mode), expected, strict=True))
    inside = read(folder / WEIGHTS, NANO)
    assert inside.adapters.keys() == {target for target in file.adapters if target.component == "unet"}


def test_the_factors_of_ia3_count_where_there_is_no_bias(clean, pipeline, tmp_path):
    """PEFT scales the output, bias and all; what scales the input is exact everywhere."""
    config = peft.IA3Config(target_modules=["to_k", "to_v", "to_q", "ff.net.2"], feedforward_modules=["ff.net.2"])
    unet = peft.get_peft_model(pipeline.unet, config)
    randomise(unet)
    unet.save_pretrained(tmp_path)
    expected = outputs(pipeline)
    file = read(tmp_path, NANO)
    assert file.unknown == ()
    assert not close(outputs(clean)[-1], expected[-1], 1e-2)
    assert all(close(found, wanted) for found, wanted in zip(attached(clean, file), expected, strict=True))
    biased = peft.get_peft_model(load().unet, peft.IA3Config(target_modules=["to_out.0"], feedforward_modules=[]))
    biased.save_pretrained(tmp_path / "biased")
    with pytest.raises(NothingApplied, match="scales its bias too"):
        read(tmp_path / "biased", NANO)


@pytest.mark.parametrize("shape", ["lora", "lora with bias", "dora", "loha"])
def test_what_we_write_loads_in_peft_with_our_output(clean, before, pipeline, tmp_path, shape):
    if shape == "lora":  # another rank and alpha for a third of the modules
        small, large = network(NANO, everything, rank=3, alpha=2), network(NANO, everything, rank=5, alpha=7, seed=50)
        adapters = {target: (small if index % 3 else large).adapters[target] for index, target in enumerate(small.adapters)}
    else:
        adapters = dict(of_type(shape).adapters)
    adapters = {target: adapter for target, adapter in adapters.items() if NANO.by_target[target].kind in ("linear", "conv")}
    path = write(LoraFile(adapters, {}, "nano"), tmp_path / "x", "peft-folder", dtype=torch.float32)
    ours = attached(clean, read(path))
    peft.PeftModel.from_pretrained(pipeline.unet, path / "unet")
    peft.PeftModel.from_pretrained(pipeline.text_encoder, path / "text_encoder")
    assert not close(before[-1], ours[-1], 1e-2)
    assert all(close(found, wanted) for found, wanted in zip(outputs(pipeline), ours, strict=True))


def test_one_component_has_no_subfolder_and_is_known_again(tmp_path):
    made = network(NANO, lambda layer: layer.attention and layer.place.is_text)
    path = write(made, tmp_path / "x", "peft-folder")
    assert sorted(each.name for each in path.iterdir()) == [CONFIG, WEIGHTS]
    assert read(path).adapters.keys() == made.adapters.keys()
    assert read(path / WEIGHTS).adapters.keys() == made.adapters.keys()


def test_a_folder_is_replaced_whole_and_anything_else_is_left_alone(tmp_path):
    path = write(network(NANO), tmp_path / "x", "peft-folder")
    write(network(NANO, lambda layer: layer.attention and not layer.place.is_text), path, "peft-folder")
    assert sorted(each.name for each in path.iterdir()) == [CONFIG, WEIGHTS]
    (path / "mine.txt").write_text("mine")
    with pytest.raises(WriteFailed, match="is no PEFT folder"):
        write(network(NANO), path, "peft-folder")
    assert (path / "mine.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteFailed, match="is no PEFT folder"):
        write(network(NANO), tmp_path / "file", "peft-folder")
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_types_do_not_share_a_folder(tmp_path):
    lora, loha = of_type("lora").adapters, of_type("loha").adapters
    mixed = {target: (lora if index % 2 else loha)[target] for index, target in enumerate(loha)}
    assert {type(adapter) for adapter in mixed.values()} == {LoRA, LoHa}
    with pytest.raises(DialectCannotHold, match=r"LO(RA|HA) .*beside LO(HA|RA)"):
        write(LoraFile(mixed, {}, "nano"), tmp_path / "x", "peft-folder")
    assert list(tmp_path.iterdir()) == []


def test_doras_vector_of_a_convolution_means_its_rows(clean, tmp_path):
    """PEFT stores [1, out, 1, 1], the shape that means columns elsewhere."""
    pipeline = copy.deepcopy(clean)
    unet = peft.get_peft_model(pipeline.unet, peft.LoraConfig(r=2, use_dora=True, target_modules=["conv1", "conv_in"]))
    unet.save_pretrained(tmp_path)
    file = read(tmp_path, NANO)
    adapter = file.adapters[Target("unet", "conv_in")]
    assert isinstance(adapter, DoRA)
    assert adapter.magnitude.shape == (16, 1, 1, 1)


@pytest.mark.parametrize(
    ("content", "error"), [("{", UnknownFormat), ("[1]", UnknownFormat), (" " * 2**21, LimitExceeded), ('{"r": "x"}', UnknownFormat)]
)
def test_a_config_that_is_not_pefts_is_refused(tmp_path, content, error):
    path = write(network(NANO, lambda layer: layer.attention and not layer.place.is_text), tmp_path / "x", "peft-folder")
    (path / CONFIG).write_text(content)
    with pytest.raises(error):
        read(path)


def test_a_folder_without_a_network_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileError, match=r"adapter_model.safetensors, no unet/adapter_model.safetensors and no pytorch_lora_weights"):
        read(tmp_path)


@pytest.mark.parametrize("options", [{"use_cayley_neumann": False}, {"num_cayley_neumann_terms": 4}], ids=str)
def test_another_formula_of_pefts_oft_is_refused(clean, tmp_path, options):
    unet = peft.get_peft_model(copy.deepcopy(clean).unet, peft.OFTConfig(oft_block_size=4, target_modules=["to_q"], **options))
    unet.save_pretrained(tmp_path)
    with pytest.raises(UnknownFormat, match="use_cayley_neumann off or with another number of terms than 5"):
        read(tmp_path, NANO)


def test_without_a_config_alpha_is_the_rank(tmp_path):
    path = write(network(NANO, alpha=9, rank=3), tmp_path / "x", "peft-folder")
    for config in path.rglob(CONFIG):
        assert json.loads(config.read_text())["lora_alpha"] == 9
        config.unlink()
    assert {float(adapter.alpha) for adapter in read(path).adapters.values()} == {3}
