"""`loraloom extract`, `resize` and `convert --type`: the path on stdout, the report beside it, exit codes as written."""

import json

import pytest
import torch

from loraloom import read


@pytest.fixture
def loraloom(command, tmp_path, make_lora):
    """The command line with two LoRAs in `./loras`."""
    make_lora(tmp_path / "loras" / "ink.safetensors", seed=1)
    make_lora(tmp_path / "loras" / "neon.safetensors", seed=2)
    return command


MIX = "<lora:ink:0.8><lora:neon:0.4>"


def test_it_prints_where_the_file_is_and_how_far_from_the_mix(loraloom):
    code, out, err = loraloom("extract", MIX, "mixed.safetensors", "--rank", 4)
    assert (code, out) == (0, "loras/mixed.safetensors\n")
    assert "lora on 60 modules, rank 4, float16 (rank 4)" in err
    assert "from the mix: " in err
    assert "of what modules put out for a fixed random input: at most " in err
    assert len(read("loras/mixed.safetensors").adapters) == 60


def test_json_has_a_row_for_each_module(loraloom):
    document = json.loads(loraloom("extract", MIX, "x.safetensors", "--error", 0.2, "--components", "unet", "--json")[1])
    assert document["path"] == "loras/x.safetensors"
    assert document["components"] == {"unet": 48}
    assert all(row["error"] <= 0.2 for row in document["rows"])


def test_flatten_says_what_mix_the_file_has(loraloom):
    code, _, err = loraloom("extract", "<lora:ink:0@1,1@4:te=0.5>", "mixed.safetensors", "--flatten", "--steps", 5)
    assert code == 0
    assert "flattened: the mean over 5 steps is <lora:ink:0.4:te=0.5>" in err
    document = json.loads(loraloom("extract", "<lora:ink:0~1>", "x.safetensors", "--flatten", "--json")[1])
    assert document["flattened"] == {"steps": 4, "mix": "<lora:ink:0.5>"}  # as many as nano usually takes


def test_a_plot_lies_where_it_was_asked_for_and_nothing_is_drawn_over(loraloom, tmp_path):
    code, _, err = loraloom("extract", MIX, "x.safetensors", "--rank", 4, "--plot", "plots/x.png")
    assert (code, "plot: plots/x.png" in err) == (0, True)
    assert (tmp_path / "plots" / "x.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = loraloom("extract", MIX, "y.safetensors", "--rank", 4, "--plot", "plots/x.png")
    assert (code, "is there already" in err) == (6, True)
    assert not (tmp_path / "loras" / "y.safetensors").exists()


def test_live_says_what_the_base_puts_out(loraloom):
    err = loraloom("extract", MIX, "x.safetensors", "--live")[2]
    assert "of what the mix changes in the base's own output: text_encoder " in err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((MIX, "x.safetensors", "--exact", "--rank", "4"), 2, "--exact loses nothing"),
        ((MIX, "x.safetensors", "--plot", "x.safetensors"), 2, "a plot is a PNG file"),
        ((MIX, "x.safetensors", "--exact", "--energy", "0.9"), 2, "--exact loses nothing"),
        ((MIX, "x.safetensors", "--rank", "4", "--as", "full"), 2, "full has the whole change"),
        ((MIX, "x.safetensors", "--rank", "0"), 2, "rank: should be greater than or equal to 1"),
        (("<lora:nobody:1>", "x.safetensors"), 3, "no LoRA named"),
        (("<lora:ink:0~1>", "x.safetensors"), 5, "one strength for all steps"),
        (("<lora:ink:0~1>", "x.safetensors"), 5, "give a number, or take its mean (--flatten)"),
        ((MIX, "x.safetensors", "--steps", "4"), 2, "steps: are those of a mean"),
        (("<lora:ink:0~1>", "x.safetensors", "--flatten", "--steps", "0"), 2, "steps: should be greater than or equal to 1"),
        (("words", "x.safetensors"), 2, "tags alone"),
        ((MIX, "x.safetensors", "--dialect", "koya"), 4, 'did you mean "kohya"'),
        ((MIX, "loras/ink.safetensors"), 6, "is there already"),
    ],
)
def test_errors_are_a_message_and_an_exit_code(loraloom, tmp_path, arguments, code, text):
    found, out, err = loraloom("extract", *arguments)
    assert (found, out) == (code, "")
    assert text in err
    assert not list(tmp_path.rglob("x.safetensors"))


def test_resize_prints_where_the_file_is_and_how_far_from_what_it_was(loraloom):
    code, out, err = loraloom("resize", "loras/ink.safetensors", "./small.safetensors", "--energy", 0.8)
    assert (code, out) == (0, "small.safetensors\n")
    assert "float16 (energy 0.8 in every module)" in err
    assert "from what it was: " in err
    assert loraloom("resize", "ink", "x.safetensors")[0] == 2
    document = json.loads(loraloom("resize", "ink", "y.safetensors", "--rank", 2, "--type", "lokr", "--json")[1])
    assert document["types"] == {"lokr": 60}


def test_extract_as_another_type(loraloom):
    assert "lokr on 60 modules" in loraloom("extract", MIX, "x.safetensors", "--as", "lokr", "--error", 0.2)[2]


def test_convert_names_the_farthest_module(loraloom):
    assert loraloom("convert", "ink", "full.safetensors", "--type", "full")[0] == 0
    code, _, err = loraloom("convert", "full.safetensors", "x.safetensors", "--type", "lora")
    assert code == 5
    assert "how much may be lost (--rank, --error, --energy)" in err
    code, _, err = loraloom("convert", "full.safetensors", "x.safetensors", "--type", "lora", "--rank", 2)
    assert code == 0
    assert "approximated: 60 modules, the farthest by " in err


def test_two_checkpoints_take_no_mix(loraloom, tmp_path, nano):
    nano.save_pretrained(tmp_path / "before")
    weight = nano.unet.conv_in.weight
    kept = weight.detach().clone()
    weight.data += torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    nano.save_pretrained(tmp_path / "after")
    weight.data.copy_(kept)
    code, out, err = loraloom("extract", "--base", "before", "--tuned", "after", "./tuned.safetensors", "--rank", 4)
    assert (code, out) == (0, "tuned.safetensors\n")
    assert "lora on 1 modules, rank 4, float16 (rank 4)" in err
    assert "from the difference: " in err
    arguments = ("extract", "--base", "nano", "--tuned", "after", "x.safetensors", "--error", 0.1, "--components", "unet", "--json")
    document = json.loads(loraloom(*arguments)[1])
    assert [row["module"] for row in document["rows"]] == ["unet.conv_in"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--tuned", "tiny", "--rank", "4", "--base", "nano", MIX, "x.safetensors"), 2, "there is no mix beside it"),
        (("--tuned", "tiny", "--rank", "4", "--base", "nano"), 2, "the name of the new file is missing"),
        (("--tuned", "tiny", "--rank", "4", "x.safetensors"), 2, "give the base too"),
        (("--tuned", "tiny", "--base", "nano", "x.safetensors"), 2, "give a rank or an error"),
        (("--tuned", "tiny", "--rank", "4", "--base", "nano", "x.safetensors"), 5, "nano is loraloom nano 1, tiny is loraloom tiny 1"),
        (("--tuned", "nano", "--rank", "4", "--base", "nano", "x.safetensors"), 5, "have the same weights"),
        (("--tuned", "loras/ink.safetensors", "--rank", "4", "--base", "nano", "x.safetensors"), 5, "this is a LoRA"),
        (("--tuned", "none.safetensors", "--rank", "4", "--base", "nano", "x.safetensors"), 5, "no such folder or file"),
        (("x.safetensors",), 2, "there is 'x.safetensors' alone"),
        ((), 2, "nothing is given"),
    ],
)
def test_mistakes_with_two_checkpoints_are_a_message_and_an_exit_code(loraloom, tmp_path, arguments, code, text):
    found, out, err = loraloom("extract", *arguments)
    assert (found, out) == (code, "")
    assert text in err
    assert not list(tmp_path.rglob("x.safetensors"))


@pytest.mark.parametrize(
    "made",
    [
        ("extract", MIX, "new", "--rank", 4),
        ("resize", "ink", "new", "--rank", 2),
        ("convert", "ink", "new.safetensors", "--dialect", "peft"),
        ("edit", "ink", "new", "--only", "unet"),
    ],
)
def test_what_a_command_writes_under_a_bare_name_a_prompt_finds(loraloom, monkeypatch, made):
    monkeypatch.setenv("LORALOOM_BASE", "nano")
    assert loraloom(*made)[:2] == (0, "loras/new.safetensors\n")
    code, _, err = loraloom("generate", "a cat <lora:new>", "--explain")
    assert (code, err) == (0, "")
