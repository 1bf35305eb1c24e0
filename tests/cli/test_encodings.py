"""No command ends in a traceback because an output cannot write a name, a trigger word or a prompt."""

import os
import subprocess
import sys

import pytest
from PIL import Image

NAME = "größe 字 🐙"
ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C"},  # of which Python makes UTF-8 (PEP 540)
    **{name: {"PYTHONIOENCODING": name} for name in ("cp1252", "cp932", "cp437", "cp1252:strict", "latin-1", "utf-16")},
}
COMMANDS = [
    ["--help"],
    ["list"],
    ["list", "--json"],
    ["inspect", NAME],
    ["inspect", NAME, "--keys", "--hash"],
    ["inspect", NAME, "--json"],
    ["check", NAME],
    ["edit", NAME],
    ["edit", NAME, "--author", "Zoë 字"],
    ["convert", NAME, "neu 字", "--dialect", "peft"],
    ["resize", NAME, "klein 🐙", "--rank", "1"],
    ["extract", f"<lora:{NAME}:0.5>", "gemischt 字"],
    ["generate", f"ein Schloß 城 🐙 <lora:{NAME}:0.5>"],
    ["generate", f"<lora:{NAME}>", "--explain"],
    ["grid", "城", "--lora", NAME, "-o", "字.png"],
    ["settings"],
    ["settings", "output_folder", "bilder 字"],
    ["example", "beispiele 字"],
    ["train", "bilder 城", "--trigger", "zvß 字", "--dry-run"],
]
WRONG = [
    ["generate", "<lora:gröse 字:1>"],
    ["inspect", "字.safetensors"],
    ["train", "nirgends 字"],
    ["settings", "größe"],
    ["convert", NAME, NAME],
]
PROGRAM = """
import ast, sys
from loraloom.cli import main
for arguments in ast.literal_eval(sys.stdin.buffer.read().decode("ascii")):
    sys.argv = ["loraloom", *arguments]
    code = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code or 0
    except BaseException as error:
        code = f"{type(error).__name__}: {error!a}"
    with open("codes", "a", encoding="ascii") as file:
        print(ascii((arguments, code)), file=file)
"""


@pytest.mark.parametrize("encoding", ["ascii", *(pytest.param(name, marks=pytest.mark.long) for name in list(ENCODINGS)[1:])])
def test_every_command_ends_well(tmp_path, make_lora, encoding):
    make_lora(tmp_path / "loras" / f"{NAME}.safetensors", metadata={"modelspec.trigger_phrase": "城 🐙", "modelspec.title": "Größe €"})
    (tmp_path / "loras" / f"{NAME}.json").write_text('{"notes": "城", "preferred weight": "viel 字"}', "utf-8")
    pictures = tmp_path / "bilder 城"
    pictures.mkdir()
    for number in range(2):
        Image.new("RGB", (16, 16)).save(pictures / f"字{number}.png")
        (pictures / f"字{number}.txt").write_text("ein 城", "utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))}
    environment |= {"LORALOOM_BASE": "nano", "LORALOOM_SETTINGS": str(tmp_path / "s.toml"), **ENCODINGS[encoding]}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=ascii([*COMMANDS, *WRONG]).encode(), cwd=tmp_path, env=environment, capture_output=True
    )
    told = (tmp_path / "codes").read_text("ascii").splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert b"Traceback" not in done.stderr + done.stdout
    assert len(told) == len(COMMANDS) + len(WRONG)
    codes = [line.rpartition(", ")[2].rstrip(")") for line in told]
    assert [line for line, code in zip(told[: len(COMMANDS)], codes, strict=False) if code != "0"] == []
    assert [line for line, code in zip(told, codes, strict=True) if code not in tuple("0234567")] == []
