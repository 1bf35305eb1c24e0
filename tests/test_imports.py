"""Who imports whom: house.md §3, walked over the syntax of every file under src/loraloom."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "loraloom"

# Room -> layer. Arrows go down only; rooms of one layer may name one another unless the layer is in SIBLINGS_APART.
LAYERS = {
    "cli": 6,
    "web": 6,
    "__main__": 6,
    "session": 5,
    "generate": 4,
    "train": 4,
    "catalogue": 4,
    "converting": 4,
    "editing": 4,
    "extracting": 4,
    "dialects": 3,
    "engine": 3,
    "combine": 3,
    "bases/model": 3,  # bases/*/model.py
    "lorafile": 2,
    "tensorfile": 1,
    "basefile": 1,
    "peek": 1,
    "plotting": 1,
    "rewrite": 1,
    "pickled": 1,
    "scalars": 1,
    "adapters": 1,
    "bases": 1,
    "prompts": 1,
    "atomic": 0,
    "bounds": 0,
    "leftovers": 0,
    "errors": 0,
    "schedule": 0,
    "strength": 0,
    "examples": 0,
    "extras": 0,
    "filenames": 0,
    "home": 0,
    "newfile": 0,
    "undo": 0,
    "settings": 0,
    "settingsfile": 0,
    "interrupts": 0,
    "lazy": 0,
    "plugins": 0,
}
SIBLINGS_APART = (3, 4)
DIFFUSERS_ALLOWED = ("bases/*/model.py", "engine/fallback/runner.py", "engine/text.py", "generate/pipeline.py")
HEAVY = ("torch", "diffusers", "transformers", "safetensors.torch", "peft", "accelerate")


class Import(NamedTuple):
    name: str  # dotted
    line: int
    at_start: bool  # runs when the module is imported


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a file, those by name (LazyModule, import_module) and those for the type checker included."""

    def walk(node: ast.AST, at_start: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_start) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (Import(f"{module}.{alias.name}", node.lineno, at_start) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("LazyModule", "import_module")):
            yield from (Import(str(name.value), node.lineno, False) for name in node.args[:1] if isinstance(name, ast.Constant))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from walk(child, False)
            for child in node.orelse:
                yield from walk(child, at_start)
            return
        inner = at_start and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inner)

    yield from walk(tree, True)


def room(parts: tuple[str, ...]) -> str:
    """The room of a module below loraloom: ("bases", "sd1", "model") is bases/model."""
    return "bases/model" if parts[0] == "bases" and parts[-1] == "model" else parts[0]


def broken_rules(root: Path, path: Path) -> Iterator[str]:
    """file:line: rule, for every import of `path` that the house forbids."""
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    if relative == Path("__init__.py"):
        return  # the public face names what it likes, lazily (test_no_torch)
    here = room(parts)
    if here not in LAYERS:
        yield f"{relative}:1: {here} is no room of house.md §3; give it a layer"
        return
    for found in imports(ast.parse(path.read_text())):
        name, where = found.name, f"{relative}:{found.line}"
        if name.startswith("."):
            yield f"{where}: relative import {name}; write it in full"
        elif name.split(".")[0] == "diffusers" and not any(relative.match(allowed) for allowed in DIFFUSERS_ALLOWED):
            yield f"{where}: diffusers belongs in {', '.join(DIFFUSERS_ALLOWED)}"
        elif found.at_start and here in ("cli", "web") and any(f"{name}.".startswith(f"{heavy}.") for heavy in HEAVY):
            yield f"{where}: {here} imports {name} at import time"
        elif name.split(".")[0] == "loraloom":
            yield from (f"{where}: {rule}" for rule in _arrow(root, here, name.split(".")[1:]))


def _arrow(root: Path, here: str, target: list[str]) -> Iterator[str]:
    if target == ["__version__"]:
        return
    while target and not (root.joinpath(*target).is_dir() or root.joinpath(*target).with_suffix(".py").is_file()):
        target = target[:-1]  # the last part is a name in the module
    if not target:
        yield "imports the public face; name the room"
        return
    there = room(tuple(target))
    if there == here or there not in LAYERS:
        return
    up, down = LAYERS[here], LAYERS[there]
    if down > up:
        yield f"{here} (layer {up}) imports {there} (layer {down}): arrows go down only"
    elif down == up and up in SIBLINGS_APART:
        yield f"{here} imports its sibling {there}: rooms of layer {up} do not know one another"


def test_every_import_goes_down():
    broken = [rule for path in sorted(SOURCE.rglob("*.py")) for rule in broken_rules(SOURCE, path)]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("path", "line", "rule"),
    [
        ("adapters/bad.py", "from loraloom.engine import Engine", "adapters (layer 1) imports engine (layer 3): arrows go down only"),
        ("dialects/bad.py", "import loraloom.engine.merge", "dialects imports its sibling engine: rooms of layer 3"),
        ("train/bad.py", "def f():\n    from loraloom import generate", "train imports its sibling generate: rooms of layer 4"),
        ("engine/bad.py", "from loraloom.bases.sd1.model import load", "engine imports its sibling bases/model: rooms of layer 3"),
        ("bases/sd1/layers.py", "from loraloom.bases.sd1 import model", "bases (layer 1) imports bases/model (layer 3)"),
        ("engine/bad.py", "from loraloom import read", "imports the public face"),
        ("engine/bad.py", "from . import merge", "relative import"),
        ("engine/bad.py", 'd = LazyModule("diffusers")', "diffusers belongs in"),
        ("engine/bad.py", "if TYPE_CHECKING:\n    from diffusers.models import UNet", "diffusers belongs in"),
        ("cli/bad.py", "import torch.nn", "cli imports torch.nn at import time"),
        ("web/bad.py", "try:\n    from torch import nn\nexcept ImportError: ...", "web imports torch.nn at import time"),
        ("kitchen/bad.py", "", "kitchen is no room"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, path, line, rule):
    for file in (path, "engine/merge.py", "generate/__init__.py", "bases/sd1/model.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / path).write_text(line)
    (found,) = broken_rules(tmp_path, tmp_path / path)
    assert found.startswith(f"{path}:{max(1, len(line.splitlines()) - ('except' in line))}: ")
    assert rule in found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("cli/good.py", "def f():\n    import torch"),
        ("cli/good.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("bases/sd1/model.py", "import diffusers"),
        ("generate/pipeline.py", "import diffusers\nfrom loraloom.engine import merge"),
        ("web/good.py", "from loraloom.cli import main"),
    ],
)
def test_what_the_house_allows_is_not_found(tmp_path, path, line):
    for file in (path, "engine/merge.py", "cli/main.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / path).write_text(line)
    assert not list(broken_rules(tmp_path, tmp_path / path))


def test_no_module_imports_itself_in_a_circle():
    """Over the imports that run at start; a circle works only by luck of the order."""
    files = {".".join(("loraloom", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in SOURCE.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in files.items()}

    def module_of(name: str) -> str | None:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name or None

    graph = {
        name: {module_of(found.name) for found in imports(ast.parse(path.read_text())) if found.at_start} - {None, name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "a circle: " + " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for following in sorted(graph[name]):
                visit(following, (*path, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
