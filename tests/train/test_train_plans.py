"""A plan that is odd is told before the run, with what to do; a usual one is not."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from loraloom.bases import NANO
from loraloom.train import TrainConfig
from loraloom.train.preflight import preflight

Job = Callable[..., TrainConfig]

ODD: dict[str, tuple[dict[str, Any], str]] = {
    "no trigger": ({"trigger": ""}, "no trigger word is set.*--trigger"),
    "too often": ({"steps": 375}, r"each of 3 pictures is seen about 250 times \(250 epochs\).*--steps 150 sees each 100 times"),
    "not even once": ({"steps": 1, "save_every": 1}, r"ends before every picture was seen once \(0\.67 epochs\): --steps 2"),
    "a batch of more than there is": ({"batch": 8}, "a batch of 8 takes each of 3 pictures more than once.*--batch 3"),
    "a rate too high": ({"learning_rate": 1.0}, r"learning rate 1 · alpha 4 / rank 4 = 1, the base's usual is 0\.001.*--lr 0\.001"),
    "a rate too low": ({"learning_rate": 1e-9}, "hardly anything may be learned"),
    "a rate too low by alpha": ({"alpha": 0.01}, "hardly anything may be learned; --lr 0.4"),
    "another size": ({"resolution": 64}, "resolution 64 is far from the base's own, 16"),
    "saved too late": ({"save_every": 1000}, "save_every is 1000, the run has 20 steps.*take 2"),
    "never warm": ({"warmup": 30}, "the learning rate rises over 30 steps, the run has 20"),
    "no words": ({"caption_dropout": 1.0}, "leaves every caption out"),
}  # fmt: skip


def odd(job: TrainConfig) -> list[str]:
    usual = ("pictures have no caption", "nearly the same", "smaller than")
    return [note for note in preflight(job, NANO).facts.notes if not any(words in note for words in usual)]


@pytest.mark.parametrize(("values", "words"), ODD.values(), ids=ODD)
def test_what_is_odd_about_a_plan_is_told_with_what_to_do(job: Job, values: dict[str, Any], words: str) -> None:
    found = odd(job(**{"steps": 20, "save_every": 10} | values))
    assert len(found) == 1
    assert re.search(words, found[0])


def test_nothing_is_told_of_a_usual_plan(job: Job) -> None:
    assert odd(job(steps=20, save_every=10)) == []
