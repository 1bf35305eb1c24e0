"""Errors of what the command line, the server and the library share: none speaks of one face's options, each names its fields."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import loraloom
from loraloom.cli.extract import extract
from loraloom.errors import LoraError, NotSupported
from loraloom.web.api.models import ExtractRequest

SOURCE = Path(loraloom.__file__).parent
SHARED = [*SOURCE.glob("combine/**/*.py"), *SOURCE.glob("dialects/**/*.py"), *SOURCE.glob("session/*.py"), SOURCE / "extracting.py"]


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


def test_the_fields_that_they_name_are_those_of_the_request_and_options_of_the_command():
    given = [
        node.value
        for _, tree in trees(SOURCE.rglob("*.py"))
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "fields"
    ]
    named = {each.value for value in given for each in ast.walk(value) if isinstance(each, ast.Constant)} | {"rank", "error", "energy"}
    assert {"base", "flatten", "dialect", "overwrite", "name"} <= named
    assert named - {"name"} <= inspect.signature(extract).parameters.keys()
    assert named <= ExtractRequest.model_fields.keys()


@pytest.mark.parametrize("fields", [(), ("base",), ("rank", "max_rank")])
def test_an_error_has_its_text_and_its_fields(fields):
    error = NotSupported("what is wrong", fields=fields)
    assert (str(error), error.fields) == ("what is wrong", fields)
    assert isinstance(error, LoraError)
