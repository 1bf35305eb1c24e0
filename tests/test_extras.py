"""A package that is missing is a sentence that says what to install, before any work: no traceback, and no exit code 0."""

import json
import re
import subprocess
import sys
from importlib.metadata import requires

import pytest
from PIL import Image

from loraloom.extras import missing

PROGRAM = """
import contextlib, io, json, sys, traceback

class Without:  # a finder that does not find these packages
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *where):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, *where)

hidden, calls = json.load(sys.stdin)
sys.meta_path[:] = map(Without, sys.meta_path)
from loraloom.cli import main
found = []
for call in calls:
    sys.argv, said, code = ["loraloom", *call], io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code or 0
        except Exception:
            code = traceback.format_exc()
    found.append((code, said.getvalue()))
json.dump(found, sys.stdout)
"""
HIDDEN = {"matplotlib", "lion_pytorch", "prodigyopt", "schedulefree", "bitsandbytes", "torchao", "scipy", "pillow_heif", "pillow_jxl"}
TRAIN = ("train", "pictures", "--base", "nano", "--steps", "1", "--batch", "1", "--output", "./x")
NEEDS = (
    (("resize", "bobbin", "./new", "--rank", "1", "--plot", "x.png"), "a plot needs matplotlib", '"loraloom[train]"'),
    ((*TRAIN, "--optimizer", "lion"), "optimiser lion needs lion-pytorch", '"loraloom[train]"'),
    ((*TRAIN, "--optimizer", "prodigy"), "optimiser prodigy needs prodigyopt", '"loraloom[train]"'),
    ((*TRAIN, "--optimizer", "adamw_schedulefree"), "optimiser adamw_schedulefree needs schedulefree", '"loraloom[train]"'),
    ((*TRAIN, "--optimizer", "adamw8bit"), "optimiser adamw8bit needs bitsandbytes", '"loraloom[quantise]"'),
    ((*TRAIN, "--base-dtype", "nf4"), "base_dtype nf4 needs bitsandbytes", '"loraloom[quantise]"'),
    ((*TRAIN, "--base-dtype", "int8"), "base_dtype int8 needs torchao", '"loraloom[quantise]"'),
    ((*TRAIN, "--base-dtype", "float8", "--dry-run"), "base_dtype float8 needs torchao", '"loraloom[quantise]"'),
    (("generate", "a", "--base", "nano", "--sampler", "LMS Karras"), "needs scipy", "scipy"),
)


def run(folder, hidden, calls):
    """The exit code of each of these commands where these packages are not installed, and what it said as one line."""
    told = json.dumps([sorted(hidden), calls])
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=told, capture_output=True, text=True, cwd=folder, timeout=600)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert not [code for code, _ in found if isinstance(code, str)]  # a traceback
    return [(code, re.sub(r"\s+", " ", said)) for code, said in found]


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "starlette", "python_multipart"])
def test_the_server_names_its_extra(tmp_path, module):
    [(code, said)] = run(tmp_path, {module}, [("serve", "--port", "0")])
    assert (code, said) == (2, f'loraloom: `serve` needs {module.replace("_", "-")}, which is not installed; pip install "loraloom[web]" ')


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The folder, and what each of NEEDS and a plain training answered in it, in an installation without any extra."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "pictures").mkdir()
    Image.new("RGB", (64, 64)).save(folder / "pictures" / "a.png")
    (folder / "pictures" / "b.heic").touch()
    return folder, run(folder, HIDDEN, [*(call for call, *_ in NEEDS), TRAIN])


def test_every_option_that_needs_a_package_names_what_brings_it(bare):
    folder, answers = bare
    for (call, needs, brings), (code, said) in zip(NEEDS, answers, strict=False):
        assert code != 0, call
        assert f"{needs}, which is not installed; pip install {brings}" in said
    assert not {"new.safetensors", "x.png"} & {path.name for path in folder.iterdir()}


def test_training_goes_on_without_what_it_does_not_need(bare):
    folder, answers = bare
    code, said = answers[-1]
    assert code == 0
    assert 'a plot needs matplotlib, which is not installed; pip install "loraloom[train]"' in said
    assert "not read (b.heic): pip install pillow-heif reads them" in said
    assert (folder / "x.safetensors").is_file()


def test_every_package_of_an_extra_is_named_with_it():
    """By the metadata of the installation, which pyproject.toml makes."""
    found = [re.match(r"([\w.-]+).*extra == ['\"](train|quantise|web|ray)['\"]", line) for line in requires("loraloom")]
    pairs = [(each[1], each[2]) for each in found if each]
    assert {extra for _, extra in pairs} == {"train", "quantise", "web", "ray"}
    for package, extra in pairs:
        assert missing("it", package.replace("-", "_")) == f'it needs {package}, which is not installed; pip install "loraloom[{extra}]"'
    assert missing("it", "no_such_pkg.Adam") == "it needs no-such-pkg, which is not installed; pip install no-such-pkg"


def test_a_package_that_is_there_and_broken_says_so():
    error = ImportError("libx.so: cannot open")
    assert missing("it", "torchao", error) == (
        'it needs torchao, which cannot be imported (libx.so: cannot open); pip install "loraloom[quantise]"'
    )
