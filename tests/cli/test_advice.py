"""What a message says to do works: each piece of advice is followed to the letter."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from sd3 import load_sd3, lora_tensors

from loraloom import dialects
from loraloom.bases import NANO, SD1, SDXL
from loraloom.lorafile import LoraFile
from loraloom.tensorfile import Header

Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"  # of one width in SD 1.x, 2.x and SDXL


@pytest.fixture
def unnamed(tmp_path):
    """A network of one module that several bases have, and that speaks for none."""
    tensors = {f"unet.{Q}.lora_A.weight": torch.randn(4, 640), f"unet.{Q}.lora_B.weight": torch.randn(640, 4)}
    save_file(tensors, tmp_path / "unnamed.safetensors")
    return "unnamed.safetensors"


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["convert", "./new.safetensors"],
        ["resize", "./new.safetensors", "--rank", "2"],
        ["edit", "./new.safetensors", "--only", "unet"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_base_that_is_asked_for_by_name_is_taken_by_that_name(command, unnamed, arguments):
    name, *rest = arguments
    code, _, err = command(name, unnamed, *rest)
    assert code in (4, 5), err
    titles = re.search(r"fit (?:one of )?(.+?): name that as the base \(--base\)", " ".join(err.split()))[1].split(", ")
    assert {SD1.title, SDXL.title} <= set(titles)
    for number, title in enumerate(titles):
        code, _, err = command(name, unnamed, *(each.replace("new", f"new{number}") for each in rest), "--base", title)
        assert code in (0, 8), err


def test_extract_takes_a_family_for_networks_that_name_none(command, unnamed):
    assert (
        command("extract", f"<lora:{unnamed.removesuffix('.safetensors')}:1>", "./new.safetensors", "--lora-folder", ".", "--base", "sdxl")[
            0
        ]
        == 0
    )
    assert Header.read("./new.safetensors").metadata["ss_base_model_version"].startswith("sdxl")


def test_a_type_that_needs_weights_asks_for_the_base_itself(command, unnamed):
    tensors = {f"unet.{Q}.lora_magnitude_vector": torch.ones(640), **load_file(unnamed)}
    save_file(tensors, "dora.safetensors")
    code, _, err = command("resize", "dora.safetensors", "./x.safetensors", "--rank", "2", "--base", "sdxl")
    assert code == 5
    assert "give the base itself, a folder or a checkpoint (--base)" in err


@pytest.mark.parametrize("command_line", [["check"], ["convert", "./new.safetensors"]], ids=lambda each: each[0])
def test_where_no_base_fits_none_is_asked_for(command, tmp_path, command_line):
    save_file({"lora_unet_nothing.lora_up.weight": torch.ones(3, 3)}, tmp_path / "x.safetensors")
    name, *rest = command_line
    code, _, err = command(name, "x.safetensors", *rest)
    assert code in (4, 5)
    assert "nothing in it fits a base that has a table here" in err
    assert "name" not in err.lower().replace("unnamed", "")
    assert command("inspect", "x.safetensors")[0] == 0


def test_a_network_of_a_family_without_a_table_is_drawn_with_a_base_of_it(command, tmp_path):
    pipeline = load_sd3()
    pipeline.save_pretrained(tmp_path / "sd3", safe_serialization=True)
    (tmp_path / "loras").mkdir()
    save_file(
        lora_tensors(pipeline), tmp_path / "loras" / "other.safetensors", {"modelspec.architecture": "stable-diffusion-3-medium/lora"}
    )
    code, _, err = command("check", "other")
    assert code == 5
    assert "it can be drawn with a base of SD 3" in err
    assert command("generate", "a cat <lora:other:1>", "--base", tmp_path / "sd3", "-o", "x.png")[0] == 0


def test_metadata_that_is_no_text_is_told_and_written_as_text(command, make_lora, tmp_path):
    from broken import put

    make_lora(tmp_path / "x.safetensors")
    entries = {key: (entry.dtype, entry.shape) for key, entry in Header.read(tmp_path / "x.safetensors").entries.items()}
    put(tmp_path / "numbers.safetensors", entries, {"ss_network_dim": 4, "lr": 1e-4})
    for name in ("inspect", "check"):
        _, out, _ = command(name, "numbers.safetensors")
        assert "values that are no text (ss_network_dim, lr)" in " ".join(out.split())
    assert command("convert", "numbers.safetensors", "./new.safetensors")[0] == 0
    assert load_file("./new.safetensors")
    assert Header.read("./new.safetensors").mended == ()
    assert Header.read("./new.safetensors").metadata["lr"] == "0.0001"


def test_flat_magnitudes_are_told_and_written_with_their_dimensions(command, tmp_path):
    layer = next(layer for layer in NANO.layers if layer.kind == "linear" and layer.attention and not layer.place.is_text)
    prefix = f"lora_unet_{layer.target.module.replace('.', '_')}"
    tensors = {f"{prefix}.lora_down.weight": torch.randn(2, layer.shape[1]), f"{prefix}.lora_up.weight": torch.randn(layer.shape[0], 2)}
    save_file(
        tensors | {f"{prefix}.alpha": torch.tensor(2.0), f"{prefix}.dora_scale": torch.rand(layer.shape[0]) + 1}, tmp_path / "x.safetensors"
    )
    assert "dora_scale of 1 modules is flat" in " ".join(command("check", "x.safetensors", "--base", "nano")[1].split())
    assert command("convert", "x.safetensors", "./new.safetensors", "--base", "nano")[0] == 0
    assert Header.read("./new.safetensors").entries[f"{prefix}.dora_scale"].shape == (layer.shape[0], 1)
    assert dialects.read("./new.safetensors").adapters.keys() == LoraFile({layer.target: None}).adapters.keys()


def damaged(make_lora, tmp_path, **values):
    """A network of nano with these values at the beginning of some tensors, by a part of their keys; and its modules."""
    tensors = load_file(make_lora(tmp_path / "whole.safetensors"))
    stems = sorted({key.partition(".")[0] for key in tensors})
    for number, (suffix, value) in enumerate(values.items()):
        tensors[f"{stems[number]}.{suffix.replace('__', '.')}"].view(-1)[0] = value
    save_file(tensors, tmp_path / "x.safetensors", {"ss_network_dim": "99", "modelspec.title": "Ink"})
    return stems


def test_a_broken_module_is_left_out_as_the_refusal_says(command, make_lora, tmp_path):
    stems = damaged(make_lora, tmp_path, alpha=float("nan"), lora_up__weight=float("inf"))
    before = (tmp_path / "x.safetensors").read_bytes()
    code, out, _ = command("check", "x.safetensors", "--base", "nano", "--deep")
    assert (code, "`loraloom convert` can leave out the modules" in " ".join(out.split())) == (9, True)
    code, _, err = command("convert", "x.safetensors", "./new.safetensors")
    assert code == 4
    assert "let `loraloom convert` repair it (--repair)" in err
    code, _, err = command("convert", "x.safetensors", "./new.safetensors", "--repair")
    assert code == 0, err
    said = [line for line in err.splitlines() if line.startswith("repaired: ")]
    assert len(said) == 3
    assert all(f"{stem}.{suffix} holds NaN" in err for stem, suffix in zip(stems, ("alpha", "lora_up.weight"), strict=False))
    assert "ss_network_dim: said '99', and the ranks are 4" in err
    whole, new = load_file("whole.safetensors"), load_file("new.safetensors")
    assert new.keys() == {key for key in whole if key.partition(".")[0] not in stems[:2]}
    assert all(torch.equal(new[key], whole[key]) for key in new)
    assert Header.read("new.safetensors").metadata["ss_network_dim"] == "4"
    assert Header.read("new.safetensors").metadata["modelspec.title"] == "Ink"
    assert command("check", "new.safetensors", "--deep")[0] == 0
    assert (tmp_path / "x.safetensors").read_bytes() == before


def test_a_repair_never_takes_the_place_of_its_source(command, make_lora, tmp_path):
    damaged(make_lora, tmp_path, alpha=float("nan"))
    code, _, err = command("convert", "x.safetensors", "./x.safetensors", "--repair", "--overwrite")
    assert (code, "gets a name of its own" in err) == (2, True)


def test_where_nothing_would_be_left_a_repair_says_so(command, make_lora, tmp_path):
    tensors = load_file(make_lora(tmp_path / "whole.safetensors"))
    save_file({key: tensor * float("nan") for key, tensor in tensors.items()}, tmp_path / "x.safetensors")
    code, _, err = command("convert", "x.safetensors", "./new.safetensors", "--repair", "--base", "nano")
    assert (code, "nothing would be left" in err) == (4, True)


def test_a_folder_of_peft_is_repaired_with_its_config(command, make_lora, tmp_path):
    make_lora(tmp_path / "whole.safetensors")
    assert command("convert", "whole.safetensors", "folder", "--dialect", "peft-folder")[0] == 0
    path = tmp_path / "folder" / "unet" / "adapter_model.safetensors"
    tensors = load_file(path)
    key = sorted(tensors)[0]
    save_file(tensors | {key: tensors[key] * float("inf")}, path)
    assert command("convert", "folder", "./new.safetensors")[0] == 4
    code, _, err = command("convert", "folder", "./new.safetensors", "--repair")
    assert (code, err.count("repaired: ")) == (0, 1), err
    assert len(dialects.read("new.safetensors").adapters) == len(dialects.read("whole.safetensors").adapters) - 1
