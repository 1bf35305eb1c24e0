"""Laws of inspect, check and convert as commands: a page or one JSON document, exit codes as written, no torch where none is needed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loraloom.bases import SD1

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.fixture
def loraloom(command, tmp_path, make_lora):
    """The command line with a few LoRAs in `./loras`."""
    make_lora(tmp_path / "loras" / "ink.safetensors", seed=1, metadata={"modelspec.trigger_phrase": "zvz, [bold]"})
    make_lora(tmp_path / "loras" / "sd.safetensors", SD1, rank=1)
    (tmp_path / "loras" / "page.safetensors").write_text("<!doctype html>")
    (tmp_path / "loras" / "empty.safetensors").touch()
    (tmp_path / "pickle.pt").write_bytes(b"PK\3\4" + b"x" * 40)
    tensors = load_file(tmp_path / "loras" / "ink.safetensors")
    save_file(tensors | {"strange\x1b[31m": np.ones(1, "f4")}, tmp_path / "partly.safetensors", {"ss_sd_model_name": "red\x1b[31m[bold]"})
    return command


def test_inspect_takes_names_of_the_library_and_paths(loraloom, tmp_path):
    for name in ("ink", "loras/ink.safetensors", tmp_path / "loras" / "ink.safetensors"):
        code, page, err = loraloom("inspect", name)
        assert (code, err) == (0, "")
        for text in ("ink.safetensors", "loraloom nano 1", "certain", "lora on", "rank 4", "alpha 4", "zvz, [bold]", "kohya"):
            assert text in page


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_a_page_fits_its_terminal_and_loses_nothing(loraloom, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    page = loraloom("inspect", "ink", "--hash")[1]
    assert max(map(len, page.splitlines())) <= width
    assert json.loads(loraloom("inspect", "ink", "--hash", "--json")[1])[0]["hashes"]["sha256"] in "".join(page.split())


def test_a_page_takes_a_strangers_text_as_text(loraloom):
    for command in (("inspect", "partly.safetensors", "--keys"), ("check", "partly.safetensors")):
        _, page, _ = loraloom(*command)
        assert "\x1b" not in page
        assert "strange�[31m" in page
    assert "red�[31m[bold]" in loraloom("inspect", "partly.safetensors")[1]


def test_json_is_a_list_with_all_that_is_known(loraloom):
    code, out, err = loraloom("inspect", "ink", "sd", "--json")
    first, second = json.loads(out)
    assert (code, err) == (0, "")
    assert (first["family"], second["family"]) == ("nano", "sd1")
    assert first["ranks"] == {"least": 4, "most": 4, "commonest": 4}
    assert first["components"][0]["attention"]["modules"] == first["components"][0]["attention"]["of"]
    assert "keys" not in first
    assert first["hashes"] is None
    with_keys = json.loads(loraloom("inspect", "ink", "--json", "--keys")[1])[0]
    assert len(with_keys["keys"]) == first["tensors"]
    assert set(with_keys) - set(first) == {"keys"}


def test_one_bad_file_of_many_does_not_hide_the_others(loraloom):
    code, out, err = loraloom("inspect", "ink", "page", "nowhere", "sd")
    assert code == 4  # of the first mistake
    assert "ink.safetensors" in out
    assert "sd.safetensors" in out
    assert "this is a web page" in err
    assert 'no LoRA named "nowhere"' in err
    code, out, _ = loraloom("inspect", "page", "ink", "--json")
    assert code == 4
    assert [sorted(entry)[:2] == ["error", "name"] for entry in json.loads(out)] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["inspect", "inc"], 3, 'did you mean "ink"'),
        (["inspect", "nowhere.safetensors"], 3, "nowhere.safetensors: no such file"),
        (["inspect", "page"], 4, "this is a web page"),
        (["inspect", "empty"], 4, "the file is empty"),
        (["inspect", "pickle.pt"], 4, "this is a pickle"),
        (["inspect", "loras"], 4, "this folder has no adapter_model.safetensors"),
        (["inspect"], 2, "Missing argument"),
        (["check", "page"], 4, "this is a web page"),
        (["check", "ink", "--base", "sdlx"], 5, 'did you mean "sdxl"'),
        (["check", "nowhere"], 3, "no LoRA named"),
        (["convert", "ink", "loras/ink.safetensors"], 6, "is there already and was not touched"),
        (["convert", "ink", "x.safetensors", "--dialect", "kohia"], 4, 'did you mean "kohya"'),
        (["convert", "ink", "x.safetensors", "--type", "oft"], 2, "--type"),
        (["convert", "pickle.pt", "x.safetensors"], 4, "is not a file of tensors that torch wrote"),
        (["convert", "page", "x.safetensors"], 4, "this is a web page"),
    ],
)
def test_errors_are_a_message_and_an_exit_code(loraloom, tmp_path, arguments, code, message):
    found, out, err = loraloom(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "x.safetensors").exists()


def test_the_exit_codes_of_check_are_its_verdicts(loraloom):
    for arguments, code, words in (
        (["ink"], 0, "fits whole"),
        (["partly.safetensors"], 8, "fits partly"),
        (["partly.safetensors", "--strict"], 9, "does not fit"),
        (["sd", "--base", "nano"], 9, "does not fit"),
        (["sd", "--base", "sd1"], 0, "fits whole"),
    ):
        found, page, err = loraloom("check", *arguments)
        assert (found, err) == (code, "")
        assert words in page
        document = json.loads(loraloom("check", *arguments, "--json")[1])
        assert document["used"] + len(document["unused"]) == document["tensors"]
    assert document["components"][0]["blocks"][0]["name"] == "IN00"


def test_check_takes_a_base_on_the_disk(loraloom, nano, tmp_path):
    nano.save_pretrained(tmp_path / "base", safe_serialization=True)
    assert loraloom("check", "ink", "--base", "base")[0] == 0
    code, page, _ = loraloom("check", "sd", "--base", "base")
    assert code == 9
    assert "made for SD 1.x" in page
    assert "the base is loraloom nano 1" in " ".join(page.split())


def test_a_report_is_written_beside_you_once(loraloom, tmp_path):
    code, out, _ = loraloom("inspect", "ink", "--report")
    assert (code, out.splitlines()[-1]) == (0, "ink.report.json")
    document = json.loads((tmp_path / "ink.report.json").read_text())
    assert (document["family"], sorted(document)) == ("nano", ["family", "keys", "metadata", "source"])
    assert str(tmp_path) not in (tmp_path / "ink.report.json").read_text()
    (tmp_path / "ink.report.json").write_text("mine")
    code, _, err = loraloom("inspect", "ink", "--report")
    assert (code, "is there already and was not touched" in err) == (6, True)
    assert (tmp_path / "ink.report.json").read_text() == "mine"
    assert loraloom("inspect", "ink", "--report", "--overwrite")[0] == 0
    assert json.loads((tmp_path / "ink.report.json").read_text()) == document


def test_convert_prints_where_the_file_is(loraloom):
    code, out, err = loraloom("convert", "ink", "new/x.safetensors", "--dialect", "peft", "--dtype", "bf16")
    assert (code, out) == (0, "new/x.safetensors\n")
    assert "diffusers/PEFT naming: lora on" in err
    assert "values moved by up to" in err
    assert json.loads(loraloom("inspect", "new/x.safetensors", "--json")[1])[0]["dialect"] == "diffusers/PEFT"
    code, out, err = loraloom("convert", "partly.safetensors", "y.safetensors", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["left_out"] == ["strange\x1b[31m: loraloom nano 1 has no module of this name"]


@pytest.mark.parametrize(
    "command", ["inspect loras/ink.safetensors --keys --hash", "inspect ink --json", "check ink", "check sd --base nano"]
)
@pytest.mark.usefixtures("loraloom")
def test_inspect_and_check_never_import_torch(tmp_path, command):
    program = f"""
import sys
sys.argv = ["loraloom", *{command.split()!r}]
from loraloom.cli import main
try:
    main()
except SystemExit:
    pass
heavy = [name for name in ("torch", "diffusers", "transformers", "peft") if name in sys.modules]
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
