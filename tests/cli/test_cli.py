"""Laws of the command line: one line where the picture is, one JSON document, exit codes as written, no torch for what needs none."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from sd3 import load_sd3, lora_tensors, write_lora

from loraloom import GridRequest, read_recipe
from loraloom.bases import SD1
from loraloom.cli import EXIT_CODES
from loraloom.cli.output import Output


@pytest.fixture
def loraloom(command, monkeypatch, tmp_path, make_lora):
    """The command line with a few LoRAs in `./loras`."""
    monkeypatch.setenv("LORALOOM_BASE", "nano")
    make_lora(tmp_path / "loras" / "ink.safetensors", seed=1, metadata={"modelspec.trigger_phrase": "zvz, [bold]"})
    make_lora(tmp_path / "loras" / "sd.safetensors", SD1, rank=1)
    (tmp_path / "loras" / "text.safetensors").write_text("this is only a text")
    return command


def test_generate_prints_where_the_pictures_are(loraloom):
    code, out, err = loraloom("generate", "A cat, sitting <lora:ink:0.8>", "-n", 2, "--seed", 7)
    assert code == 0
    assert out == "outputs/0001-a-cat-sitting.png\noutputs/0002-a-cat-sitting.png\n"
    assert "ink: " in err
    assert [read_recipe(path).seed for path in out.split()] == [7, 8]
    assert read_recipe(out.split()[0]).prompt == "A cat, sitting <lora:ink:0.8>"


def test_explain_draws_nothing(loraloom, tmp_path):
    code, out, _ = loraloom("generate", "a cat <lora:ink:1>", "--explain")
    assert code == 0
    assert "ink: text_encoder 12/12, unet 48/48" in out
    assert "made for loraloom nano 1" in out
    assert not list(tmp_path.rglob("*.png"))
    document = json.loads(loraloom("generate", "a cat <lora:ink:1>", "--explain", "--json")[1])
    assert document["report"]["networks"][0]["name"] == "ink"


def test_generate_never_writes_over_a_picture(loraloom, tmp_path):
    assert loraloom("generate", "a cat", "-o", "x.png")[0] == 0
    before = (tmp_path / "x.png").read_bytes()
    code, out, err = loraloom("generate", "a dog", "-o", "x.png")
    assert (code, out) == (6, "")
    assert "x.png is there already and was not touched" in err
    assert (tmp_path / "x.png").read_bytes() == before
    assert loraloom("generate", "a dog", "-o", "x.png", "--overwrite")[0] == 0
    assert (tmp_path / "x.png").read_bytes() != before
    assert loraloom("generate", "a dog", "-o", "x.png", "-n", 2)[1] == "x-1.png\nx-2.png\n"
    assert loraloom("generate", "a dog", "-o", "some/folder")[1] == "some/folder/0001-a-dog.png\n"


def test_a_picture_to_begin_with_is_a_picture(loraloom, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    code, _, err = loraloom("generate", "a", "-i", "notes.png")
    assert (code, err) == (2, "loraloom: --image notes.png: not a picture; give a PNG, JPEG or WebP file\n")


def test_missing_networks_are_skipped_where_that_is_asked_for(loraloom):
    found = json.loads(loraloom("generate", "a <lora:inc:1> <lora:ink:1>", "--negative", "<lora:neno>", "--skip-missing", "--json")[1])
    assert [network["name"] for network in found["networks"]] == ["ink"]
    assert [note.partition(";")[0] for note in found["notes"]] == ['no LoRA named "inc"', 'no LoRA named "neno"']
    assert found["pictures"][0]["recipe"]["prompt"] == "a <lora:inc:1> <lora:ink:1>"
    code, _, err = loraloom("grid", "a <lora:inc>", "--lora", "ink", "--strengths", "1", "--skip-missing")
    assert code == 0
    assert 'note: no LoRA named "inc"' in err


def test_seed_minus_1_is_a_random_one(loraloom):
    seeds = {json.loads(loraloom("generate", "a", "--seed", -1, "--json")[1])["pictures"][0]["seed"] for _ in range(2)}
    assert len(seeds) == 2  # two of 2^32 are equal once in four billion
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_json_is_one_document_and_nothing_else(loraloom):
    code, out, err = loraloom("generate", "(a cat) <lora:ink>", "--seed", 1, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["pictures"][0]["recipe"]["prompt"] == "(a cat) <lora:ink>"
    assert found["networks"][0]["name"] == "ink"
    assert found["notes"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generate", "a <lora:inc>"], 3, 'no LoRA named "inc"; did you mean "ink"?'),
        (["generate", "a <lora:ink"], 2, "this tag is not closed"),
        (["generate", "a <lora:ink:foo=1>"], 2, 'unknown key "foo"'),
        (["generate", "a", "--width", "65"], 2, "--width: sides are multiples of 8"),
        (["generate", "a", "--seed", "-2"], 2, "--seed: should be greater than or equal to -1, not -2"),
        (["generate", "a", "-n", "0"], 2, "--pictures: "),
        (["generate", "a", "--denoise", "0.5"], 2, "--denoise is about a picture to begin with; give it with --image"),
        (["generate", "a", "--mask", "x.png"], 2, "--mask is about a picture to begin with; give it with --image"),
        (["generate", "a", "-i", "none.png"], 3, "--image none.png: this picture cannot be read: No such file"),
        (["generate", "a", "-i", ""], 2, "--image .: this is a folder; give a PNG, JPEG or WebP file"),
        (["grid", "a", "--steps", "0"], 2, "--steps: "),
        (["extract", "<lora:ink>", "./x.safetensors", "--rank", "0"], 2, "--rank: "),
        (["generate", "a &lt;lora:ink:1&gt;"], 2, "this is nearly a tag; write <lora:ink:1>"),
        (["generate", "a <lora:inc:tee=1>", "--skip-missing"], 2, 'unknown key "tee"'),
        (["generate", "a", "--sampler", "eular"], 2, 'did you mean "Euler"'),
        (["generate", "a", "--stpes", "4"], 2, "--steps"),
        (["generate", "a", "-o", "x.jpg"], 2, "saved as .png"),
        (["generate", "a <lora:text>"], 4, "not a safetensors file"),
        (["generate", "a <lora:sd>"], 5, "was made for SD 1.x"),
        (["generate", "a", "--base", "nanu"], 5, 'did you mean "nano"'),
        (["generate", "a <lora:ink>", "--lora-folder", "nowhere"], 3, "there is no such folder of LoRAs"),
        (["generate", "a", "-o", "/proc/x/y.png"], 6, "could not be made"),
        (["grid", "a", "--strengths", "1,x"], 2, "--strengths takes numbers"),
        (["lst"], 2, "list"),
        (["settings", "bsae"], 2, 'there is no setting "bsae"; did you mean "base"?'),
        (["settings", "base", "tiny"], 2, "fixed by the environment (LORALOOM_BASE)"),
        (["settings", "loader", "peft"], 2, "loader: should be"),
        (["settings", "base", "--reset", "base"], 2, "--reset base takes no other setting"),
    ],
)
def test_errors_are_a_message_and_an_exit_code(loraloom, arguments, code, message):
    found, out, err = loraloom(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_subclasses_come_before_their_classes_in_the_exit_codes():
    kinds = [kind for kind, _ in EXIT_CODES]
    for index, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[index + 1 :])


def test_an_interrupt_is_130(loraloom, monkeypatch):
    from loraloom.session import Session

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "generate", interrupted)
    assert loraloom("generate", "a")[0] == 130


def test_an_interrupt_keeps_the_pictures_that_are_finished(loraloom, monkeypatch):
    save = Output.save

    def interrupted(self, image, text, *, title, index=0, key="parameters"):
        if index == 2:
            raise KeyboardInterrupt
        return save(self, image, text, title=title, index=index, key=key)

    monkeypatch.setattr(Output, "save", interrupted)
    code, out, _ = loraloom("generate", "a cat", "-n", 5, "--seed", 7)
    assert (code, out) == (130, "outputs/0001-a-cat.png\noutputs/0002-a-cat.png\n")
    assert [read_recipe(path).seed for path in out.split()] == [7, 8]


def test_grid_saves_a_sheet_that_can_be_drawn_again(loraloom):
    columns = ("--lora", "ink", "--column", "half=<lora:ink:te=0.5>", "--column", "<lora:ink:2>")
    code, out, _ = loraloom("grid", "a cat", "a dog", *columns, "-o", "s.png")
    assert (code, out) == (0, "s.png\n")
    with Image.open("s.png") as image:
        request = GridRequest.model_validate_json(image.info["loraloom"])
    assert [column.label for column in request.all_columns] == ["base", "ink 0.5", "ink 1", "half", "<lora:ink:2>"]
    assert request.columns[0].tags == "<lora:ink:te=0.5>"
    assert request.seed is not None


def test_list_shows_every_file_and_what_is_wrong_with_it(loraloom, tmp_path, monkeypatch):
    code, out, _ = loraloom("list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out) if entry["path"].startswith(str(tmp_path))}
    assert code == 0
    assert (entries["ink"]["family"], entries["ink"]["types"], entries["ink"]["triggers"]) == ("nano", ["lora"], ["zvz", "[bold]"])
    assert entries["ink"]["problem"] is None
    assert entries["sd"]["base"] == "SD 1.x"
    assert "not a safetensors file" in entries["text"]["problem"]
    _, table, _ = loraloom("list")
    for text in ("ink", "loraloom nano 1", "zvz, [bold]", "SD 1.x"):
        assert text in table
    monkeypatch.setenv("COLUMNS", "40")
    for lines in (table, loraloom("list")[1]):  # a reason is one line at any width
        [reason] = [line for line in lines.splitlines() if line.startswith("text (")]
        assert reason.endswith(entries["text"]["problem"])
    assert "SD 1.x" not in loraloom("list", "ZVZ")[1]


def test_without_a_terminal_no_line_of_a_table_is_broken(loraloom, tmp_path, monkeypatch, make_lora):
    monkeypatch.delenv("COLUMNS")
    folder = tmp_path / "loras" / ("deep" * 30)
    make_lora(folder / "far.safetensors")
    [row] = [line for line in loraloom("list")[1].splitlines() if line.startswith("far")]
    assert str(folder) in row


def test_list_searches_and_says_what_lies_beside_a_file(loraloom, tmp_path):
    (tmp_path / "loras" / "ink.json").write_text('{"activation text": "flat", "preferred weight": 0.6, "notes": "mine"}')
    (tmp_path / "loras" / "ink.preview.png").touch()
    [entry] = json.loads(loraloom("list", "FLAT", "lora", "--family", "nano", "--json")[1])
    assert (entry["tag"], entry["strength"], entry["notes"]) == ("ink", 0.6, "mine")
    assert entry["preview"] == str(tmp_path / "loras" / "ink.preview.png")
    assert len(entry["id"]) == 16
    assert json.loads(loraloom("list", "flat", "--family", "sd1", "--json")[1]) == []
    assert "LoRAs is like this" in loraloom("list", "nothing", "of", "this")[2]


def test_settings_are_shown_and_changed(loraloom, tmp_path, monkeypatch):
    monkeypatch.setenv("LORALOOM_SETTINGS", str(tmp_path / "s.toml"))
    code, table, _ = loraloom("settings")
    assert code == 0
    assert [line.split()[-1] for line in table.splitlines() if line.startswith(("base ", "loader "))] == ["LORALOOM_BASE", "default"]
    assert loraloom("settings", "auto_apply_triggers", "-1")[:2] == (0, "-1\n")
    assert loraloom("settings", "lora_folders", os.pathsep.join(["/a", "/b"]))[1] == os.pathsep.join(["/a", "/b"]) + "\n"
    found = json.loads(loraloom("settings", "--json")[1])
    assert found["values"]["auto_apply_triggers"] == -1
    assert (found["fixed"], found["file"]) == (["base", "library_index"], str(tmp_path / "s.toml"))
    assert loraloom("settings", "--reset", "lora_folders")[:2] == (0, "\n")
    assert (tmp_path / "s.toml").read_text() == "auto_apply_triggers = -1\n"


@pytest.mark.parametrize(
    "arguments", ["--help", "settings", "list", "list --json", "generate --help", "grid --help", "train --help", "generate <lora:x"]
)
def test_what_draws_nothing_never_imports_torch(arguments, tmp_path):
    program = f"""
import sys
sys.argv = ["loraloom", *{arguments.split()!r}]
from loraloom.cli import main
try:
    main()
except SystemExit:
    pass
heavy = [name for name in ("torch", "diffusers", "transformers") if name in sys.modules]
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    environment = os.environ | {"LORALOOM_SETTINGS": str(tmp_path / "none.toml")}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def unknown_base(tmp_path):
    """A folder with a pipeline that the native engine does not know, and a LoRA for it in `./loras`."""
    pipeline = load_sd3()
    pipeline.save_pretrained(tmp_path / "sd3", safe_serialization=True)
    write_lora(tmp_path / "loras" / "three.safetensors", lora_tensors(pipeline))
    return tmp_path / "sd3"


def test_a_base_that_is_not_known_draws_through_diffusers_and_says_so(loraloom, unknown_base):
    options = ("--base", unknown_base, "--steps", 2, "--seed", 1)
    code, out, err = loraloom("generate", "a cat <lora:three:0.5>", *options)
    assert (code, out) == (0, "outputs/0001-a-cat.png\n")
    assert "three: transformer 9/9, text_encoder 2/2" in err
    assert "note: LoRAs ran through diffusers: this StableDiffusion3Pipeline is not known to the native engine" in err
    assert Image.open(out.strip()).tobytes() != Image.open(loraloom("generate", "a cat", *options)[1].strip()).tobytes()

    found = json.loads(loraloom("generate", "a cat <lora:three:0.5>", *options, "--json")[1])
    assert (found["mode"], found["reason"]) == ("diffusers", "this StableDiffusion3Pipeline is not known to the native engine")

    for tags, more, expected, message in (
        ("<lora:three>", ["--loader", "native"], 5, "not a base that the native engine knows"),
        ("<lora:three:1:in=0>", [], 5, "use unet= instead of in="),
        ("<lora:sd>", [], 5, "was made for SD 1.x"),
        ("<lora:ink>", ["--force"], 5, "none of its"),
        ("<lora:text>", [], 4, "not a safetensors file"),
        ("<lora:three>", ["--loader", "peft"], 2, "--loader"),
    ):
        code, out, err = loraloom("generate", f"a cat {tags}", *options, *more)
        assert (code, out) == (expected, ""), err
        assert message in err
