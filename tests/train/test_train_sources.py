"""Laws of folders and captions: every source is read as it says, and what is there but not used is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.bases import NANO
from loraloom.errors import DatasetError, SettingsError
from loraloom.train import TrainConfig, read_config, resolve
from loraloom.train.captions import from_name
from loraloom.train.dataset import Dataset, read_dataset
from loraloom.train.wording import Wording

Make = Callable[..., Path]


def read(*folders: Path | str, **values: Any) -> Dataset:
    return read_dataset(resolve(TrainConfig.model_validate({"pictures": folders, "resolution": 16} | values), NANO))


def captions(dataset: Dataset) -> dict[str, str]:
    return {picture.name: picture.caption for picture in dataset.pictures}


def test_one_folder_is_written_without_brackets(pictures: Path) -> None:
    assert TrainConfig(pictures=pictures).pictures == TrainConfig(pictures=(pictures,)).pictures == (pictures,)
    assert read_config({"pictures": str(pictures)}).pictures == (pictures,)
    with pytest.raises(SettingsError, match="pictures"):
        read_config({"pictures": []})


def test_several_folders_count_as_often_as_is_said(tmp_path: Path, make_pictures: Make) -> None:
    first, second = make_pictures(tmp_path / "x" / "cats", {"a": "one", "b": "two"}), make_pictures(tmp_path / "y" / "cats", {"a": "three"})
    make_pictures(first / "2_dog", {"c": None})
    found = read(first, f"{second}:5")
    assert captions(found) == {"cats/a.png": "one", "cats/b.png": "two", "cats/2_dog/c.png": "dog", "cats~2/a.png": "three"}
    assert dict(zip(captions(found), found.repeats, strict=True))["cats~2/a.png"] == 5
    assert read(f"{first}:3").repeats == (6, 3, 3)  # 2_dog counts twice by its own name
    with pytest.raises(DatasetError, match="given twice; to count its pictures twice, write cats:2"):
        read(first, first)


def test_a_folder_with_a_colon_in_its_name_is_itself(tmp_path: Path, make_pictures: Make) -> None:
    assert read(make_pictures(tmp_path / "cats:3", {"a": "one"})).repeats == (1,)


def test_folders_of_folders_are_read_when_asked_for(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures(tmp_path / "set" / "park" / "summer", {"a": "one"})
    make_pictures(tmp_path / "set" / "10_dog", {"b": None})
    (tmp_path / "set" / "around").symlink_to(tmp_path / "set")
    assert captions(read(tmp_path / "set")) == {"10_dog/b.png": "dog"}
    found = read(tmp_path / "set", subfolders=True)
    assert captions(found) == {"10_dog/b.png": "dog", "park/summer/a.png": "one"}  # a link is not followed in circles
    with pytest.raises(DatasetError, match=r"no pictures.*There are some further down, in summer: read them with --subfolders"):
        read(tmp_path / "set" / "park")


def test_one_caption_for_all_says_that_others_are_not_used(pictures: Path) -> None:
    found = read(pictures, caption="a  drawing", trigger="zvz")
    assert set(captions(found).values()) == {"zvz, a drawing"}
    assert any("the caption files of . are not used" in note for note in found.notes)


@pytest.mark.parametrize(
    ("stem", "words"),
    [("red_cat_02", "red cat"), ("red-cat (3)", "red cat"), ("cat2", "cat2"), ("0012", ""), ("IMG 7", "IMG"), ("a.b_1", "a.b")],
)
def test_names_say_what_a_person_would_read(stem: str, words: str) -> None:
    assert from_name(stem) == words


def test_file_names_caption_what_has_no_other_caption(pictures: Path) -> None:
    (pictures / "c.png").rename(pictures / "a_blue_dog_3.png")
    assert captions(read(pictures, caption_from_name=True))["a_blue_dog_3.png"] == "a blue dog"
    assert captions(read(pictures, caption_from_name=True))["a.png"] == "a red cat, sitting"


@pytest.mark.parametrize(
    ("values", "caption", "expected"),
    [
        ({"prefix": "photo of", "suffix": ", by day"}, "a cat", "zvz, photo of a cat, by day"),
        ({"prefix": "a zvz,"}, "cat", "a zvz, cat"),
        ({"suffix": ", by day"}, "", "zvz, by day"),
        ({}, "", "zvz"),
    ],
)
def test_words_around_a_caption_leave_no_stray_commas(values: dict[str, str], caption: str, expected: str) -> None:
    assert Wording("zvz", **values).written(caption) == expected


def test_a_caption_file_beside_another_counts_by_its_ending(pictures: Path) -> None:
    (pictures / "a.caption").write_text("a red  cat, sitting")
    assert any(".txt counts where .caption is there too (they say the same): a.caption" in note for note in read(pictures).notes)
    (pictures / "a.caption").write_text("a dog")
    found = read(pictures)
    assert captions(found)["a.png"] == "a red cat, sitting"
    assert any("warning: .txt counts, but the .caption beside it says something else: a.caption" in note for note in found.notes)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"no_upscale": True}, "need buckets"),
        ({"bucket_step": 8}, "need buckets"),
        ({"caption": "x", "caption_from_name": True}, "exclude one another"),
        ({"mask_background": 0.5}, "needs masks"),
        ({"regularization_weight": 0.5}, "needs regularization pictures"),
        ({"crop": "left"}, "crop = 'left'"),
    ],
)
def test_options_that_mean_nothing_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_config({"pictures": "x", **values})
