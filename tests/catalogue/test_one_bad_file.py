"""One bad file does not hurt its neighbours: whatever reading it raises is its own problem, said and logged."""

import pytest
from broken import put

from loraloom import dialects
from loraloom.catalogue import Catalogue, facts, inspecting
from loraloom.errors import Unforeseen

K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
DOWN, UP = f"{K}.lora_down.weight", f"{K}.lora_up.weight"
BAD = {
    "mid without a shape": {DOWN: ("F32", (4, 16)), UP: ("F32", (16, 4)), f"{K}.lora_mid.weight": ("F32", ())},
    "lengths beyond 64 bits": {DOWN: ("F32", (0, 2**70)), UP: ("F32", (2**70, 0))},
    "no tensors": {},
}


def library(folder, make_lora):
    make_lora(folder / "good.safetensors", metadata={"modelspec.trigger_phrase": "zvz"})
    for name, file in BAD.items():
        put(folder / f"{name}.safetensors", file)
    return Catalogue([folder])


def test_a_bad_file_says_why_and_its_neighbours_are_there(tmp_path, make_lora):
    catalogue = library(tmp_path, make_lora)
    catalogue.complete()
    known = {item.name: catalogue.facts(item) for item in catalogue.items}
    assert known["good"].problem == ""
    assert known["good"].triggers == ("zvz",)
    assert all(known[name].problem for name in BAD)
    assert [item.name for item in catalogue.search("zvz")] == ["good"]
    assert catalogue.find("good").name == "good"


ROOMS = {"names": (dialects, "match"), "metadata": (facts, "peek"), "notes": (facts, "read_sidecar")}


def let_fail(monkeypatch, room, error, stem="unlucky"):
    """Our own code has a bug that this file alone meets."""
    module, name = ROOMS[room]
    own = getattr(module, name)

    def failing(what, *rest, **options):
        if getattr(what, "path", what).stem == stem:
            raise error
        return own(what, *rest, **options)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize("error", [IndexError("tuple index out of range"), ZeroDivisionError(), RecursionError(), KeyError("x")], ids=repr)
@pytest.mark.parametrize("room", ROOMS)
def test_a_bug_that_one_file_meets_is_that_files_problem(tmp_path, make_lora, monkeypatch, caplog, room, error):
    catalogue = library(tmp_path, make_lora)
    make_lora(tmp_path / "unlucky.safetensors", seed=1)
    catalogue.rescan()
    let_fail(monkeypatch, room, error)
    catalogue.complete()
    known = {item.name: catalogue.facts(item) for item in catalogue.items}
    assert known["good"].problem == ""
    assert known["good"].types == ("lora",)
    assert type(error).__name__ in known["unlucky"].problem
    assert "a bug of loraloom" in known["unlucky"].problem
    [record] = [record for record in caplog.records if "unlucky" in record.getMessage()][:1]
    assert record.exc_info[1] is error


def test_memory_that_is_short_for_one_file_may_suffice_the_next_time(tmp_path, make_lora, monkeypatch):
    catalogue = library(tmp_path, make_lora)
    with monkeypatch.context() as now:
        let_fail(now, "metadata", MemoryError(), stem="good")
        assert "not enough memory" in catalogue.facts(catalogue.find("good")).problem
    catalogue.rescan()
    assert catalogue.facts(catalogue.find("good")).problem == ""


@pytest.mark.parametrize("look", [inspecting.inspect, inspecting.fit])
def test_looking_at_one_file_closely_raises_nothing_but_lora_errors(tmp_path, make_lora, monkeypatch, look):
    make_lora(tmp_path / "unlucky.safetensors")
    let_fail(monkeypatch, "names", IndexError("tuple index out of range"))
    with pytest.raises(Unforeseen, match=r"unlucky\.safetensors: .* IndexError \(tuple index out of range\): a bug of loraloom"):
        look(tmp_path / "unlucky.safetensors")
