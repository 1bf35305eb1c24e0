"""Laws of what is kept: a cached run is the uncached run bit for bit, and no entry is read that is damaged or of something else."""

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom import dialects
from loraloom.bases import NANO
from loraloom.bases.nano.model import load
from loraloom.errors import TrainingError, WriteFailed
from loraloom.tensorfile import Header
from loraloom.train import TrainConfig, TrainingStopped, train
from loraloom.train.preflight import preflight
from loraloom.train.store import Store

Job = Callable[..., TrainConfig]


def notes(result: Any) -> str:
    return next(note for note in result.notes if note.startswith("cache "))


def test_a_cached_run_is_the_uncached_one_bit_for_bit(job: Job, nano: Any, tmp_path: Path) -> None:
    values = {"steps": 3, "flip": True, "buckets": True, "dtype": "float32", "overwrite": True, "caption_dropout": 0.5}
    plain = train(job(**values), nano, NANO)
    first = train(job(**values, cache=str(tmp_path / "kept")), nano, NANO)
    again = train(job(**values, cache=str(tmp_path / "kept")), nano, NANO)
    assert plain.hash == first.hash == again.hash
    assert notes(first).endswith("0 entries found, 10 made")  # three pictures and their mirror images, three captions and none
    assert notes(again).endswith("10 entries found, 0 made")


def test_damaged_entries_are_made_anew_and_told(job: Job, nano: Any, tmp_path: Path) -> None:
    values = {"steps": 2, "dtype": "float32", "overwrite": True, "cache": str(tmp_path / "kept")}
    expected = train(job(**values), nano, NANO).hash
    first, second, third, *_ = sorted((tmp_path / "kept").iterdir())
    first.write_bytes(first.read_bytes()[:-3])
    content = bytearray(second.read_bytes())
    content[-5] ^= 1  # one bit of one number
    second.write_bytes(content)
    third.write_bytes(b"")
    result = train(job(**values), nano, NANO)
    assert result.hash == expected
    assert any(note.startswith("3 damaged entries of the cache were made anew: ") for note in result.notes)
    assert notes(train(job(**values), nano, NANO)).endswith("6 entries found, 0 made")


def test_runs_that_share_a_cache_at_once_leave_one_another_entries_alone(tmp_path: Path) -> None:
    """What one reads, nobody writes again, and all get what a run alone gets."""
    folder, gate = str(tmp_path / "kept"), threading.Barrier(8)
    Store(folder)

    def run(_: int) -> tuple[list[float], list[Path]]:
        store = Store(folder, base="x")
        gate.wait()
        made = [store.tensors("text", {"number": str(number)}, lambda n=number: {"a": torch.full((64,), float(n))}) for number in range(40)]  # type: ignore[misc]
        return [float(each["a"].sum()) for each in made], store.damaged

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, range(8)))
    assert [values for values, _ in found] == [[64.0 * number for number in range(40)]] * 8
    assert {tensors for entry in (tmp_path / "kept").iterdir() for tensors in Header.read(entry).entries} == {"a"}
    assert len(list((tmp_path / "kept").iterdir())) == 40


def test_entries_are_never_read_for_another_base_or_size(job: Job, nano: Any, tmp_path: Path, pictures: Path) -> None:
    values = {"steps": 1, "overwrite": True, "cache": str(tmp_path / "kept")}
    made = [notes(train(job(**values), nano, NANO))]
    made += [notes(train(job(**values), load(seed=1), NANO)), notes(train(job(**values, resolution=24), nano, NANO))]
    assert [note.split(": ")[1] for note in made] == [
        "0 entries found, 6 made",
        "0 entries found, 6 made",
        "3 entries found, 3 made",  # captions do not know of sizes
    ]
    (pictures / "a.png").write_bytes((pictures / "b.png").read_bytes())
    assert notes(train(job(**values), nano, NANO)).endswith("6 entries found, 0 made")  # known by content, not by name


def test_a_picture_that_changes_under_way_is_not_kept_under_another_ones_name(job: Job, nano: Any, tmp_path: Path, pictures: Path) -> None:
    config = job(cache=str(tmp_path / "kept"))
    checked = preflight(config, NANO)
    (pictures / "b.png").write_bytes((pictures / "a.png").read_bytes())
    with pytest.raises(TrainingError, match=r"b\.png was changed while the run began"):
        train(config, nano, NANO, checked=checked)


def test_an_entry_that_says_it_is_something_else_is_not_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.tensors("latents", {"picture": "a"}, lambda: {"mean": torch.zeros(2)})
    (path,) = tmp_path.iterdir()
    (other,) = set(_after(store, tmp_path, {"picture": "b"})) - {path}
    other.write_bytes(path.read_bytes())
    assert store.tensors("latents", {"picture": "b"}, lambda: {"mean": torch.ones(2)})["mean"].tolist() == [1, 1]
    assert store.damaged == [other]


def _after(store: Store, folder: Path, key: dict[str, str]) -> list[Path]:
    store.tensors("latents", key, lambda: {"mean": torch.ones(2)})
    return list(folder.iterdir())


def test_half_written_entries_of_a_killed_run_go_and_those_of_another_stay(tmp_path: Path) -> None:
    old, new = tmp_path / ".latents-a.1.partial", tmp_path / ".latents-b.2.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    Store(str(tmp_path))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_cache_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match=r"the cache cannot be made.*choose another --cache"):
        Store(str(tmp_path / "file"))


@pytest.mark.parametrize(
    "values",
    [
        {"buckets": True, "flip": True, "batch": 2, "accumulate": 2},
        {"crop": "random", "flip": True, "masks": "beside"},
        {"caption_shuffle": True, "tag_dropout": 0.4, "keep_first": 1, "caption_suffix": "x, y, z", "regularization": True},
    ],
    ids=["buckets", "crop", "words"],
)
def test_whatever_draws_a_stopped_run_ends_as_a_straight_one(
    job: Job, nano: Any, tmp_path: Path, make_pictures: Any, pictures: Path, values: dict[str, Any]
) -> None:
    make_pictures(pictures, {"wide": "one, two, three"}, size=(40, 16))
    make_pictures(pictures, {"a.mask": None}, size=(24, 20))
    if "regularization" in values:
        values = values | {"regularization": (make_pictures(tmp_path / "reg", {"r": "a cat", "s": None}),)}
    values = values | {"steps": 7, "dtype": "float32", "cache": str(tmp_path / "kept")}
    straight = train(job(**values, output=tmp_path / "straight"), nano, NANO)
    left = iter(range(2, -1, -1))
    with pytest.raises(TrainingStopped):
        train(job(**values), nano, NANO, stop=lambda: next(left) == 0)
    assert train(job(**values, resume=True), nano, NANO).hash == straight.hash


def test_metadata_tells_buckets_regularisation_and_masks(job: Job, nano: Any, tmp_path: Path, make_pictures: Any, pictures: Path) -> None:
    make_pictures(pictures, {"wide": "one"}, size=(40, 16))
    make_pictures(pictures, {"a.mask": None}, size=(24, 20))
    reg = make_pictures(tmp_path / "reg" / "2_cat", {"r": None}).parent
    values = {"buckets": True, "masks": "beside", "regularization": (reg,), "regularization_weight": 0.5, "keep_first": 2, "flip": True}
    told = dialects.read(train(job(pictures=(f"{pictures}:3",), **values), nano, NANO).path).metadata
    expected = {
        "ss_num_train_images": "12",
        "ss_num_reg_images": "12",
        "ss_enable_bucket": "True",
        "ss_bucket_no_upscale": "False",
        "ss_bucket_reso_steps": "8",
        "ss_prior_loss_weight": "0.5",
        "ss_masked_loss": "True",
        "ss_keep_tokens": "2",
        "ss_dataset_dirs": '{"pictures": {"n_repeats": 3, "img_count": 4}}',
        "ss_reg_dataset_dirs": '{"2_cat": {"n_repeats": 2, "img_count": 1}}',
    }
    assert {name: told.get(name) for name in expected} == expected
    info = json.loads(told["ss_bucket_info"])
    assert sum(bucket["count"] for bucket in info["buckets"].values()) == 24
    assert len(info["buckets"]) == 2
    assert info["mean_img_ar_error"] > 0
    assert [subset["is_reg"] for subset in json.loads(told["ss_datasets"])[0]["subsets"]] == [False, True]
    assert str(tmp_path) not in json.dumps(dict(told))
