"""No shape reaches an index unchecked: from any tensor of any shape in any file comes a LoraError, or a reason in the file's report."""

from contextlib import suppress

import pytest
from broken import SHAPES, broken, packed, put, suffixes
from cases import CASES, FORMS, takes

from loraloom.adapters import TYPES, adapter_type
from loraloom.bases import NANO
from loraloom.catalogue.facts import read_facts
from loraloom.catalogue.inspecting import fit, inspect
from loraloom.catalogue.inspecting.numbers import rank_of
from loraloom.catalogue.scan import scan
from loraloom.dialects import DIALECTS, read
from loraloom.errors import LoraError

TARGETS = {"linear": ((16, 16), (8, 12)), "conv": ((16, 16, 3, 3), (16, 16, 1, 1)), "norm": ((16,),), "embedding": ((64, 16),)}


def judged(shapes, kind):
    """What matching asks about tensors of these shapes."""
    found = adapter_type(shapes)
    rank_of(shapes)
    if found is None or found.refusal(kind, shapes):
        return None
    found.check(shapes)
    return [found.misfit(shapes, target) for target in TARGETS[kind]]


@pytest.mark.parametrize("name", CASES)
def test_every_suffix_of_every_type_is_checked_before_it_is_used(name):
    """With the type's own numbers, and as the only tensor besides nothing."""
    for kind in takes(name):
        for suffix in suffixes(name):
            for shape in SHAPES:
                for shapes in ({key: entry[1] for key, entry in broken(name, TARGETS[kind][0], suffix, shape).items()}, {suffix: shape}):
                    with suppress(LoraError):
                        judged(shapes, kind)


def test_every_suffix_of_every_type_is_tried():
    assert {suffix for name in CASES for suffix in suffixes(name)} == {suffix for kind in TYPES for suffix in kind.suffixes()}


@pytest.mark.parametrize("names", [FORMS, pytest.param(tuple(CASES), marks=pytest.mark.long)], ids=["forms", "cases"])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_dialect_reports_every_broken_tensor(tmp_path, dialect, names):
    for file in packed(dialect, NANO, names):
        path = put(tmp_path / "x.safetensors", file)
        told = outcomes(path)
        assert not any("bug of loraloom" in sentence for sentence in told), told


def outcomes(path):
    """What each way of looking at a file raises; nothing but LoraErrors."""
    found = []
    for look in (lambda path: read(path, NANO, force=True), lambda path: inspect(path, keys=True), lambda path: fit(path, NANO)):
        try:
            look(path)
        except LoraError as error:
            found.append(str(error))
    [item] = scan([path.parent])
    return [*found, read_facts(item).problem]
