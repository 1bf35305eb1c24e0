"""read(write(x)) = x for every dialect and every adapter type, or a refusal that names the way out; docs/formats.md has the table.

`LORALOOM_DOCS=1 pytest tests/dialects/test_matrix.py` writes the table; without it the test fails where the committed one differs.
"""

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from cases import CASES, takes
from support import close

from loraloom.adapters import Adapter
from loraloom.bases import NANO
from loraloom.dialects import DIALECTS, read, write
from loraloom.errors import BadTensor, DialectCannotHold
from loraloom.lorafile import LoraFile

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
BEGIN, END = "<!-- matrix: tests/dialects/test_matrix.py writes it -->\n", "<!-- end of the matrix -->"
WRITTEN = [dialect for dialect in DIALECTS if dialect.writes]
NAMES = [name for name in CASES if not name.endswith(("fp16", "bf16"))]
EXACT, ROUNDED, REFUSED = "yes", "rounded", "–"


@cache
def of_type(name: str) -> LoraFile:
    """One case on one module of each shape of NANO's, in each component, that it can be made for."""
    torch.manual_seed(0)
    adapters: dict = {}
    seen = set()
    for layer in NANO.layers:
        bare = layer.kind == "embedding" and "bias" in name
        if layer.kind in takes(name) and not bare and (layer.target.component, layer.kind, layer.shape) not in seen:
            seen.add((layer.target.component, layer.kind, layer.shape))
            adapter = CASES[name](layer.shape)
            if fits(adapter, layer.shape):
                adapters[layer.target] = adapter
    assert len(adapters) > 1
    return LoraFile(adapters, {"ss_output_name": name}, "nano")


def fits(adapter: Adapter, shape: tuple[int, ...]) -> bool:
    """Some types need sizes that divide, and a case is made for a layer of any size."""
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
    try:
        adapter.check(shapes)
    except BadTensor:
        return False
    return adapter.misfit(shapes, shape) is None


def same(found: Adapter, made: Adapter, weight: torch.Tensor) -> str | None:
    """How exactly the one is the other: every tensor but the scale's numbers to the bit, or what they do within 1e-6; else None."""
    if type(found) is not type(made):
        return None
    numbers, mine, theirs = made.numbers(), found.tensors(), made.tensors()
    bits = all(torch.equal(mine[suffix].flatten(), theirs[suffix].flatten()) for suffix in mine.keys() & theirs.keys() - numbers)
    if bits and mine.keys() - numbers == theirs.keys() - numbers and torch.equal(found.delta(weight), made.delta(weight)):
        return EXACT
    biases = found.bias_delta(weight.flatten()[: len(weight)]), made.bias_delta(weight.flatten()[: len(weight)])
    near = (biases[0] is biases[1] is None) or close(*biases, 1e-6)
    return ROUNDED if near and close(found.delta(weight), made.delta(weight), 1e-6) else None


def outcome(folder: Path, dialect: str, name: str) -> str:
    made = of_type(name)
    path = folder / "x.safetensors"
    try:
        write(made, path, dialect, dtype=torch.float32)
    except DialectCannotHold as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "write it in kohya naming" in refusal
        assert not list(folder.iterdir()), "a refusal leaves nothing"
        return REFUSED
    again = read(path)
    assert (again.base, again.dialect, again.unknown, again.warnings) == ("nano", dialect, (), ())
    assert again.adapters.keys() == made.adapters.keys()
    generator = torch.Generator().manual_seed(4)
    results = set()
    for target, adapter in made.adapters.items():
        result = same(again.adapters[target], adapter, torch.randn(NANO.by_target[target].shape, generator=generator))
        assert result, f"{target}: {name} written as {dialect} is another adapter when it is read"
        results.add(result)
    return ROUNDED if ROUNDED in results else EXACT


@pytest.fixture(scope="module")
def matrix(tmp_path_factory) -> dict[str, dict[str, str]]:
    return {name: {dialect.name: outcome(tmp_path_factory.mktemp("cell"), dialect.name, name) for dialect in WRITTEN} for name in NAMES}


def label(name: str) -> str:
    """The row of a case: what wraps any other type alike shares one."""
    for wrapper in ("dora", "sparse"):
        if name.startswith(f"{wrapper} of ") and name not in ("dora of columns", "dora of tucker"):
            return f"{wrapper} of another type"
    return name


def table(matrix: dict[str, dict[str, str]]) -> str:
    rows: dict[str, list[set[str]]] = {}
    for name, cells in matrix.items():
        row = rows.setdefault(label(name), [set() for _ in WRITTEN])
        for found, cell in zip(row, cells.values(), strict=True):
            found.add(cell)
    lines = ["| type | " + " | ".join(dialect.name for dialect in WRITTEN) + " |", "|---" * (1 + len(WRITTEN)) + "|"]
    lines += [f"| {name} | " + " | ".join(" or ".join(sorted(cell)) for cell in row) + " |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def test_the_table_in_the_docs_is_what_holds(matrix):
    found = table(matrix)
    print(found)
    before, _, rest = DOCS.read_text().partition(BEGIN)
    committed, end, after = rest.partition(END)
    assert end, f"{DOCS} has no place for the matrix"
    if os.environ.get("LORALOOM_DOCS"):
        DOCS.write_text(before + BEGIN + found + END + after)
    else:
        assert committed == found, "LORALOOM_DOCS=1 writes the new table"


@pytest.mark.parametrize("dialect", ["kohya", "lycoris"])
def test_two_dialects_hold_everything_to_the_bit(matrix, dialect):
    assert {cells[dialect] for cells in matrix.values()} == {EXACT}
