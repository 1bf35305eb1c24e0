"""No stranger's text steers a terminal: every command, on both outputs, whatever names, metadata, notes, keys and prompts hold."""

import ast
import io
import json
import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import loraloom
from loraloom.cli import screen, terminal

SOURCE = Path(loraloom.__file__).parent
DOOR = {SOURCE / "cli" / "terminal.py", SOURCE / "cli" / "screen.py"}
# Colours, the cursor, the title (OSC 0), a link (OSC 8), the clipboard (OSC 52), C1's own introducer, bells, turned and hidden text,
# ends of lines, and half a character.
STEERING = (
    "\x1b[31m\x1b[2J\x1b]0;t\x07\x1b]8;;x\x1b\\\x1b]52;c;eA==\x07\x9b1A\x90\x08\r\x7f\u202eabc\u202c\u2066x\u2069\u200b\ufeff\u2028\x85"
)
LINES = "\nloraloom: all is well\n"
NAME = f"a{STEERING}{LINES}[bold]b"


def steers(text: str) -> list[str]:
    """The characters of a text that a terminal obeys, by Unicode's own categories."""
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return [
        repr(letter)
        for letter in text
        if (unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") and letter not in "\n\t") or unicodedata.bidirectional(letter) in bidi
    ]


@pytest.fixture
def hostile(command, tmp_path, make_lora, monkeypatch):
    """A library where everything that a stranger can name steers."""
    monkeypatch.setenv("LORALOOM_BASE", "nano")
    folder = tmp_path / "loras"
    told = {
        "ss_output_name": f"out{STEERING}",
        "modelspec.title": NAME,
        "modelspec.trigger_phrase": f"zvz{STEERING}",
        "ss_network_dim": STEERING,
    }
    made = make_lora(folder / "plain.safetensors")
    tensors = load_file(made) | {f"unknown{NAME}.lora_up.weight": torch.ones(1)}
    save_file(tensors, folder / f"{NAME}.safetensors", {**told, f"own{NAME}": NAME, "ss_base_model_version": f"sdxl_{STEERING}"})
    (folder / os.fsdecode(b"half\xff\xfe.safetensors")).write_bytes((folder / f"{NAME}.safetensors").read_bytes())
    (folder / f"{NAME}.json").write_text(json.dumps({"activation text": NAME, "notes": NAME, "tags": [NAME]}))
    (folder / f"cut{NAME}.safetensors").write_bytes(made.read_bytes()[:500])
    (folder / "page.safetensors").write_text(f"<html>{STEERING}")
    pictures = tmp_path / f"pictures{STEERING}"
    pictures.mkdir()
    Image.new("RGB", (64, 64)).save(pictures / f"p{NAME}.png")
    (pictures / f"p{NAME}.txt").write_text(f"zvz{STEERING}")
    return command


FILE = f"loras/{NAME}.safetensors"
PICTURES = f"pictures{STEERING}"
COMMANDS = {
    "list": ["list"],
    "list of none": ["list", NAME],
    "list elsewhere": ["list", "--lora-folder", NAME],
    "inspect": ["inspect", FILE, "--keys", "--hash"],
    "inspect several": ["inspect", FILE, f"loras/cut{NAME}.safetensors", "loras/page.safetensors", NAME],
    "inspect half a character": ["inspect", os.fsdecode(b"loras/half\xff\xfe.safetensors")],
    "check": ["check", FILE, "--base", "nano"],
    "check another base": ["check", FILE, "--base", NAME],
    "convert": ["convert", FILE, f"new{NAME}.safetensors", "--base", "nano"],
    "convert half": ["convert", os.fsdecode(b"loras/half\xff\xfe.safetensors"), os.fsdecode(b"new\xff.safetensors"), "--base", "nano"],
    "convert a cut one": ["convert", f"loras/cut{NAME}.safetensors", "new.safetensors"],
    "convert to a dialect": ["convert", FILE, "new.safetensors", "--dialect", NAME],
    "edit": ["edit", FILE],
    "edit a value": ["edit", FILE, f"edited{NAME}.safetensors", "--set", f"x=y{STEERING}", "--unset", f"own{NAME}"],
    "edit a key that is not there": ["edit", FILE, "--unset", NAME],
    "extract": ["extract", f"<lora:{NAME}:1>", "new.safetensors"],
    "extract a file": ["extract", "<lora:plain:1>", f"mix{NAME}.safetensors"],
    "resize": ["resize", "loras/plain.safetensors", f"small{NAME}.safetensors", "--rank", "2"],
    "generate": ["generate", f"a cat {STEERING} <lora:plain:0.5>", "-o", f"cat{NAME}.png"],
    "generate with half a character": ["generate", "a cat <lora:half��:0.5>", "-o", os.fsdecode(b"cat\xff.png")],
    "generate, unknown": ["generate", f"a cat <lora:{NAME}x:1>"],
    "generate, a mistake": ["generate", f"a cat {STEERING} <lora:plain:step={STEERING}>"],
    "generate, a picture": ["generate", "a cat", "-i", f"none{NAME}.png"],
    "generate, a base": ["generate", "a cat", "--base", NAME],
    "explain": ["generate", "a cat <lora:plain:1>", "--explain"],
    "grid": ["grid", "a cat", "--lora", NAME, "-o", f"grid{NAME}.png"],
    "settings": ["settings"],
    "settings, a name": ["settings", NAME],
    "settings, a value": ["settings", "output_folder", NAME],
    "train": ["train", PICTURES, "--dry-run", "--trigger", f"zvz{STEERING}"],
    "train nowhere": ["train", f"no{PICTURES}"],
    "an option": ["list", f"--{STEERING}"],
    "an argument": ["check", FILE, NAME],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_no_command_lets_text_steer(hostile, arguments):
    code, out, err = hostile(*arguments)
    assert steers(out) == []
    assert steers(err) == []
    assert out or err
    assert code != 1 or arguments[0] == "train", err  # 1 is a bug; `train --dry-run` says so that something stops the run
    assert not [each for each in (*out.splitlines(), *err.splitlines()) if each.startswith("loraloom: all is well")]


def test_a_network_that_a_prompt_names_by_its_hash_is_told_by_its_own_name(hostile, tmp_path):
    """Which steers, where a tag cannot."""
    digest = "0123456789abcdef"
    path = tmp_path / "loras" / f"{NAME}.safetensors"
    save_file(load_file(tmp_path / "loras" / "plain.safetensors"), path, {"sshs_model_hash": digest, "ss_output_name": NAME})
    for arguments in (["--explain"], ["-o", "x.png"]):
        code, out, err = hostile("generate", f"a cat <lora:{digest}:0.5>", *arguments)
        assert code == 0, err
        assert "�[bold]b" in out + err
        assert steers(out + err) == []
        assert not [each for each in (*out.splitlines(), *err.splitlines()) if each.startswith("loraloom: all is well")]
    assert Image.open("x.png").info["parameters"]


@pytest.mark.parametrize("name", [name for name, (first, *_) in COMMANDS.items() if first not in ("train", "serve") and "half" not in name])
def test_json_is_ascii_and_every_text_of_it_can_be_written(hostile, name):
    _, out, err = hostile(*COMMANDS[name], "--json")
    assert out.isascii()
    assert steers(out) == []
    assert steers(err) == []
    if out:
        json.dumps(json.loads(out, parse_constant=pytest.fail), ensure_ascii=False).encode()


def test_colours_are_ours_alone(hostile, monkeypatch):
    """As on a terminal: rich's own codes are colours, and nothing else is left."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for arguments in (["list"], ["inspect", FILE], ["check", FILE, "--base", "nano"], ["settings"]):
        _, out, err = hostile(*arguments)
        without = [part.partition("m")[2] if index else part for index, part in enumerate(out.split("\x1b["))]
        assert len(without) > 1
        assert steers("".join(without)) == []
        assert steers(err) == []


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932", "cp437", "utf-8"])
@pytest.mark.parametrize(
    "arguments", [["list"], ["inspect", FILE], ["edit", FILE], ["settings"], ["--help"], ["check", FILE, "--base", "nano"]]
)
def test_no_encoding_of_the_output_is_an_error(hostile, monkeypatch, encoding, arguments):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    code, *_ = hostile(*arguments)
    assert sys.stdout.buffer.getvalue().decode(encoding)
    assert code in (0, 8)


def test_a_traceback_a_warning_and_other_packages_do_not_steer():
    program = (
        "import sys, warnings\n"
        "from loraloom.cli import app, main\n"
        "@app.command()\n"
        "def broken(text: str):\n"
        "    warnings.warn(sys.argv[2])\n"
        "    sys.stderr.write('\\r 10%|#')\n"
        "    raise ValueError(sys.argv[2])\n"
        "@app.command()\n"
        "def other(): ...\n"
        "sys.argv = ['loraloom', 'broken', sys.argv[1]]\n"
    )
    command = [sys.executable, "-c", program + "main()", f"x{STEERING}"]
    run = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONUTF8": "1"}, check=False)
    shown = run.stderr.decode()
    assert run.returncode == 1
    assert "ValueError: x�[31m" in shown
    assert "UserWarning: x�[31m" in shown
    assert "\r 10%|#" in shown
    assert steers(shown.replace("\r 10%|#", "")) == []


def test_log_lines_are_one_line_each():
    record = logging.LogRecord("x", logging.ERROR, "", 0, f"%s{LINES}", (f"{STEERING}{LINES}",), None)
    shown = terminal._Lines("%(levelname)s: %(message)s").format(record)
    assert shown.startswith("ERROR: �[31m")
    assert "\n" not in shown
    assert steers(shown) == []


@pytest.mark.parametrize("text", ["ink", "墨 絵", "نیم‌فاصله", "👩‍🎨 ✨", "a\tb\nc", "naïve “quotes” – dash", "[bold]x[/bold]"])
def test_honest_text_stays_as_it_is(text):
    assert terminal.clean(text) == text
    assert screen.cell(text.replace("\n", "").replace("\t", "")).plain == text.replace("\n", "").replace("\t", "")


FORBIDDEN = {"print", "echo", "secho", "stdout", "stderr", "Console", "basicConfig", "StreamHandler", "rprint"}


def test_no_file_of_the_command_line_prints_by_another_way():
    """By the syntax: whoever needs one of these gives it to the door."""
    found = []
    for path in sorted(set(SOURCE.glob("cli/*.py")) - DOOR):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            whose = ast.unparse(node.value) if isinstance(node, ast.Attribute) else ""
            if name in FORBIDDEN and not (name == "print" and whose in ("page", "console", "screen", "Screen()", "self")):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


def test_nothing_below_the_command_line_prints():
    """But the other process of `pickled`, whose stdout is read by this one."""
    rest = [path for path in SOURCE.rglob("*.py") if path.parent != SOURCE / "cli" and path.name != "pickled.py"]
    calls = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in rest
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write", "typer.echo")
    ]
    assert calls == []


def test_files_that_cannot_be_used_are_last_in_the_list_and_counted(command, make_lora, tmp_path):
    make_lora(tmp_path / "loras" / "z.safetensors")
    for name in ("a", "m"):
        (tmp_path / "loras" / f"{name}.safetensors").write_text("Entry not found")
    _, out, err = command("list")
    names = [row.split()[0] for row in out.splitlines() if not row.startswith(" ")]  # others are the rest of a cell
    assert names[-2:] == ["a", "m"]
    assert "z" in names[:-2]
    assert 'this is a text ("Entry not found")' in out
    assert f"2 of {len(names) - 1} files cannot be used" in err
