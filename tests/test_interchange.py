"""What other programs make of our files: the tables of the documentation, and the one that `convert` chooses from, are what is measured.

Measured by tools/interchange: the packages that install by their own loaders, the others by re-enacted key maps and formulas.
"""

import re

import pytest
from tools.interchange.forms import FORMS
from tools.interchange.measure import PEERS, network, places
from tools.interchange.peer import Reenacted
from tools.interchange.tables import DOCS, PARTS, filled, measured

from loraloom.bases import SD1, SDXL
from loraloom.dialects import by_name
from loraloom.dialects.readers import READ, READS, TOOLS, forms

PEER = {peer.name: peer for peer in PEERS}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("files"))


def test_the_tables_in_the_documentation_are_what_is_measured(found):
    """`python -m tools.interchange` writes them."""
    text = DOCS.read_text("utf-8")
    assert filled(text, found) == text
    assert len(PARTS) == 3


@pytest.mark.parametrize("reads", READS, ids=lambda reads: f"{reads.tool} {reads.dialect}")
def test_the_table_that_convert_uses_is_what_is_measured(found, reads):
    for form in FORMS:
        reading = found[reads.tool, form, reads.dialect]
        if not reading.held:
            assert reads.verdict(form) not in READ, form
            continue
        kinds = network(form)
        assert {kind: reading.verdict(kind) for kind in kinds} == dict.fromkeys(kinds, reads.verdict(form)), form
    assert reads.whole | reads.at_1 | reads.wrong <= FORMS.keys()
    assert reads.why.keys() <= reads.wrong


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_known_again(form):
    made = network(form)
    assert made
    for kind, adapter in made.items():
        named = set(forms(adapter, places()[kind].layer))
        assert named - {"lora", "full"} == {form} - {"lora", "full"}


def test_every_program_is_read_whole_in_some_way():
    assert set(TOOLS) == {"comfyui", "forge", "sdnext", "invokeai", "kohya", "diffusers", "peft", "lycoris"}
    assert all(any("lora" in reads.whole for reads in READS if reads.tool == tool) for tool in TOOLS)


NAMED = [(base, reads) for base in (SD1, SDXL) for reads in READS if isinstance(PEER[reads.tool], Reenacted)]


@pytest.mark.parametrize(("base", "reads"), NAMED, ids=[f"{base.family} {reads.tool} {reads.dialect}" for base, reads in NAMED])
def test_at_full_size_a_program_finds_every_module_that_the_table_says(base, reads):
    """By the names alone: 794 modules of SDXL's UNet, 282 of SD 1.x's, and the text encoders."""
    peer, dialect = PEER[reads.tool], by_name(reads.dialect)
    layers = [layer for layer in base.layers if layer.kind in ("linear", "conv")]
    assert len(layers) > 300
    for layer in layers:
        found = dialect.spell(layer, base)[0] in peer.names(layer, base)
        assert found == (not reads.modules or bool(re.search(reads.modules, str(layer.target)))), layer.target
