"""Laws of finishing a prompt: what this computer knows of the networks stands in the prompt afterwards, once."""

import pytest

from loraloom.catalogue import Catalogue, finish
from loraloom.prompts import parse


@pytest.fixture
def library(tmp_path, make_lora):
    make_lora(tmp_path / "ink.safetensors", rank=1, metadata={"modelspec.trigger_phrase": "zvz, ink, flat"})
    make_lora(tmp_path / "neon.safetensors", rank=1)
    (tmp_path / "neon.json").write_text('{"activation text": "glow", "preferred weight": 0.6}')
    return Catalogue([tmp_path])


@pytest.mark.parametrize(
    ("prompt", "triggers", "default", "finished"),
    [
        ("a cat <lora:ink>", 0, 1.0, "a cat <lora:ink>"),
        ("a cat <lora:ink>", 0, 0.5, "a cat <lora:ink:0.5>"),
        ("a cat <lora:neon> <lora:ink>", 0, 1.0, "a cat <lora:neon:0.6> <lora:ink>"),
        ("a cat <lora:neon:0.9>", 0, 0.5, "a cat <lora:neon:0.9>"),
        ("a cat <lora:neon:te=0.2>", 0, 1.0, "a cat <lora:neon:0.6:te=0.2>"),
        ("a cat <lora:ink:1>", 1, 1.0, "a cat <lora:ink:1>, zvz"),
        ("a cat <lora:ink:1>", 2, 1.0, "a cat <lora:ink:1>, zvz, ink"),
        ("_tags_, a cat <lora:neon:1><lora:ink:1>", -1, 1.0, "glow, zvz, ink, flat, a cat <lora:neon:1><lora:ink:1>"),
        ("a cat, _tags_ <lora:ink:1>", 0, 1.0, "a cat, <lora:ink:1>"),
        ("a cat <lora:ink:0>", -1, 1.0, "a cat <lora:ink:0>"),
        ("a cat <lora:nothing>", -1, 0.5, "a cat <lora:nothing>"),
    ],
)
def test_numbers_and_words_are_written_out(library, prompt, triggers, default, finished):
    found = finish(parse(prompt), library, default=default, triggers=triggers)
    assert found.prompt.source == finished
    assert found.prompt == parse(finished)
    assert finish(found.prompt, library, default=default, triggers=triggers).prompt == found.prompt
    assert finish(found.prompt, library, default=1.0, triggers=0).prompt == found.prompt


def test_words_that_were_added_and_left_out_are_said(tmp_path, make_lora):
    make_lora(tmp_path / "ink.safetensors", rank=1, metadata={"modelspec.trigger_phrase": "zvz, <lora:x:1>"})
    found = finish(parse("a <lora:ink:1>"), Catalogue([tmp_path]), default=1.0, triggers=-1)
    assert found.notes == (
        "trigger words added to the prompt: zvz",
        "trigger word left out, as no prompt can say it: <lora:x:1>",
    )
