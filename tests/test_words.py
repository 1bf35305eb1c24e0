"""Errors of what the command line, the server and the library share: none speaks of one face's options, each names its fields."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import loraloom
from loraloom.cli import app
from loraloom.cli.extract import extract
from loraloom.errors import LoraError, NotSupported
from loraloom.web.api.models import ExtractRequest

SOURCE = Path(loraloom.__file__).parent
EXTRACTING = [
    *SOURCE.glob("combine/**/*.py"),
    *SOURCE.glob("dialects/**/*.py"),
    *SOURCE.glob("session/*.py"),
    SOURCE / "extracting.py",
    SOURCE / "atomic.py",
]
SHARED = [*EXTRACTING, *SOURCE.glob("catalogue/*.py"), *SOURCE.glob("generate/**/*.py"), SOURCE / "editing.py"]
COMMANDS = [command.callback for command in app.registered_commands if command.callback]


def trees(paths):
    return [(path.relative_to(SOURCE), ast.parse(path.read_text("utf-8"))) for path in paths]


def test_they_speak_of_no_option():
    texts = [
        (str(path), node.value)
        for path, tree in trees(SHARED)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert len(texts) > 500
    assert [found for found in texts if re.search(r"(^|[ (])--[a-z]", found[1])] == []


def named(paths):
    """Each word in a `fields=(...)`."""
    given = [node.value for _, tree in trees(paths) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "fields"]
    return {each.value for value in given for each in ast.walk(value) if isinstance(each, ast.Constant)}


def test_the_fields_that_extracting_names_are_those_of_the_request_and_options_of_the_command():
    words = named(EXTRACTING) | {"rank", "error", "energy"}
    assert {"base", "flatten", "dialect", "overwrite"} <= words
    assert words <= inspect.signature(extract).parameters.keys()
    assert words <= ExtractRequest.model_fields.keys()


def test_every_field_that_is_named_is_an_option_of_a_command():
    options = {name for command in COMMANDS for name in inspect.signature(command).parameters}
    assert {"set", "lora_folder"} <= named(SOURCE.rglob("*.py"))
    assert named(SOURCE.rglob("*.py")) - {"name"} <= options  # a server's files have a name, a command's a path


@pytest.mark.parametrize("fields", [(), ("base",), ("rank", "max_rank")])
def test_an_error_has_its_text_and_its_fields(fields):
    error = NotSupported("what is wrong", fields=fields)
    assert (str(error), error.fields) == ("what is wrong", fields)
    assert isinstance(error, LoraError)
