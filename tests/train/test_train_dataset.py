"""Laws of pictures and captions: whatever cannot be used is refused by name, whatever is odd is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loraloom.bases import NANO
from loraloom.errors import DatasetError
from loraloom.train import TrainConfig, resolve
from loraloom.train.chance import Sample
from loraloom.train.dataset import Dataset, read_dataset
from loraloom.train.odd import odd_captions, odd_pictures
from loraloom.train.order import Order
from loraloom.train.pictures import as_tensor, fitted, open_picture
from loraloom.train.wording import Wording, with_trigger


def read(*folders: Path | str, **values: Any) -> Dataset:
    job = TrainConfig.model_validate({"pictures": folders, "trigger": "zvz", "resolution": 16} | values)
    return read_dataset(resolve(job, NANO))


def told(*folders: Path | str, limit: int = 200, **values: Any) -> str:
    """Everything that is odd, in one text."""
    job = resolve(TrainConfig.model_validate({"pictures": folders, "trigger": "zvz", "resolution": 16} | values), NANO)
    found = read_dataset(job)
    return " | ".join((*found.notes, *odd_pictures(found, job), *odd_captions(found, lambda text: max(0, len(text) - limit))))


def captions(dataset: Dataset) -> dict[str, str]:
    return {picture.name: picture.caption for picture in dataset.pictures}


def test_captions_come_from_text_files_with_the_trigger_in_front(pictures: Path) -> None:
    found = read(pictures)
    assert captions(found) == {"a.png": "zvz, a red cat, sitting", "b.png": "zvz on a hill, blue sky", "c.png": "zvz"}
    assert found.notes == ('1 of 3 pictures have no caption, they are trained as "zvz": c.png',)


def test_captions_come_from_metadata_jsonl_where_there_is_no_text_file(pictures: Path) -> None:
    texts = {"c.png": "a  dog", "gone.png": "x", "a.png": "x"}
    lines = (json.dumps({"file_name": name, "text": text}) for name, text in texts.items())
    (pictures / "metadata.jsonl").write_text("\n\n".join(lines))
    found = read(pictures)
    assert captions(found)["c.png"] == "zvz, a dog"
    assert captions(found)["a.png"] == "zvz, a red cat, sitting"
    assert any("pictures that are not there: gone.png" in note for note in found.notes)
    assert any("not used for pictures that have a caption file: a.png" in note for note in found.notes)


def test_kohya_folders_repeat_their_pictures_and_name_them(tmp_path: Path, make_pictures: Callable[..., Path]) -> None:
    make_pictures(tmp_path / "10_blue_dog", {"a": None, "b": "sleeping"})
    make_pictures(tmp_path / "2_cat", {"a": None})
    make_pictures(tmp_path / "others", {"a": None})
    found = read(tmp_path)
    assert captions(found) == {"10_blue_dog/a.png": "zvz, blue dog", "10_blue_dog/b.png": "zvz, sleeping", "2_cat/a.png": "zvz, cat"}
    assert found.repeats == (10, 10, 2)
    assert found.tag_frequency() == {"10_blue_dog": {"zvz": 2, "blue dog": 1, "sleeping": 1}, "2_cat": {"cat": 1, "zvz": 1}}
    assert any("others/ is not read (a.png)" in note for note in found.notes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing", ["does not exist", "missing"]),
        (lambda folder: folder / "a.png", ["is a file"]),
        (lambda folder: _folder(folder / "empty"), ["no pictures", ".webp"]),
        (lambda folder: _broken(folder, b"not a picture"), ["z.png", "not a picture", "take it out"]),
        (lambda folder: _broken(folder, (folder / "a.png").read_bytes()[:400]), ["z.png", "damaged"]),
        (lambda folder: _file(folder, "a.txt", b"caf\xe9"), ["a.txt", "not UTF-8", "latin-1", "--caption-encoding"]),
        (lambda folder: _file(folder, "metadata.jsonl", b'{"file_name": "a.png"'), ["metadata.jsonl, line 1", "not JSON"]),
        (lambda folder: _file(folder, "metadata.jsonl", b'{"image": "a.png"}'), ["metadata.jsonl, line 1", "expected"]),
        (lambda folder: _file(folder, "metadata.jsonl", b'{"text": "a cat"}'), ["metadata.jsonl, line 1", "expected"]),
        (lambda folder: _file(folder, "metadata.jsonl", b'{"file_name": "a.png", "text": [1]}'), ["metadata.jsonl, line 1", "expected"]),
        (lambda folder: _file(folder, "metadata.jsonl", b"[1]"), ["metadata.jsonl, line 1", "expected"]),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_name(pictures: Path, make, words: list[str]) -> None:
    with pytest.raises(DatasetError) as caught:
        read(make(pictures))
    for word in words:
        assert word in str(caught.value)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _broken(folder: Path, content: bytes) -> Path:
    return _file(folder, "z.png", content)


def _file(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder


def test_what_is_odd_is_told(pictures: Path) -> None:
    (pictures / "alone.txt").write_text("nobody")
    (pictures / "d.psd").write_bytes(b"8BPS")
    notes = told(pictures, resolution=32, limit=20)
    for word in ("without a picture are not used: alone.txt", "d.psd", "3 of 3 pictures are smaller than 32"):
        assert word in notes
    assert "2 captions are longer than the text encoder reads and are cut: a.png (by 3), b.png (by 3)" in notes


def test_the_fingerprint_changes_with_pixels_and_captions_only(pictures: Path) -> None:
    first = read(pictures).fingerprint
    (pictures / "note.md").write_text("nothing to do with it")
    assert read(pictures).fingerprint == first
    (pictures / "a.txt").write_text("a blue cat")
    assert read(pictures).fingerprint != first


def test_pictures_are_upright_squares_on_white(tmp_path: Path) -> None:
    half = np.zeros((8, 8, 4), dtype=np.uint8)
    half[:, 4:, 3] = 255  # left transparent, right black
    Image.fromarray(half).save(tmp_path / "a.png")
    values = np.asarray(open_picture(tmp_path / "a.png"))
    assert (values[:, :4] == 255).all()
    assert (values[:, 4:] == 0).all()
    tall = Image.new("RGB", (10, 30), "red")
    exif = tall.getexif()
    exif[0x0112] = 6  # the camera was held sideways
    tall.save(tmp_path / "b.jpg", exif=exif)
    assert open_picture(tmp_path / "b.jpg").size == (30, 10)
    deep = np.full((4, 4), 0x8000, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "c.png")
    assert np.asarray(open_picture(tmp_path / "c.png"))[0, 0].tolist() == [128, 128, 128]
    tensor = as_tensor(fitted(open_picture(tmp_path / "a.png"), (4, 4)))
    assert tensor.shape == (3, 4, 4)
    assert (float(tensor.min()), float(tensor.max())) == (-1, 1)


@pytest.mark.parametrize(
    ("caption", "trigger", "expected"),
    [
        ("a cat", "zvz", "zvz, a cat"),
        ("a ZVZ cat", "zvz", "a ZVZ cat"),
        ("a zvzx cat", "zvz", "zvz, a zvzx cat"),
        ("", "zvz", "zvz"),
        ("a cat", "", "a cat"),
    ],
)
def test_the_trigger_is_there_once(caption: str, trigger: str, expected: str) -> None:
    assert with_trigger(caption, trigger) == expected


def test_what_chance_makes_of_a_caption_depends_on_seed_step_and_sample_alone() -> None:
    def made(seed: int, step: int, name: str) -> str:
        return Wording("zvz", dropout=0.3, shuffle=True).at_step("x, zvz cat, y, z, w", Sample(seed, step, 0, name))

    table = {(seed, step, name): made(seed, step, name) for seed in (0, 1) for step in range(1, 30) for name in ("a", "b")}
    for case in reversed(table):
        assert made(*case) == table[case]
    kept = [caption for caption in table.values() if caption]
    assert all(caption.startswith("zvz cat, ") and sorted(caption.split(", ")) == ["w", "x", "y", "z", "zvz cat"] for caption in kept)
    assert len(set(kept)) > 10
    assert 0.15 < 1 - len(kept) / len(table) < 0.45
    assert [table[0, step, "a"] for step in range(1, 30)] != [table[1, step, "a"] for step in range(1, 30)]


def test_an_epoch_takes_every_picture_as_often_as_its_folder_says() -> None:
    order = Order(7, ("a", "b", "c"), (3, 1, 2))
    steps = [order.samples(step, 4) for step in range(1, 7)]
    flat = [sample for step in steps for sample in step]
    assert [order.samples(step, 4) for step in range(6, 0, -1)] == steps[::-1]
    for epoch in range(4):
        part = [sample.picture for sample in flat[6 * epoch : 6 * epoch + 6]]
        assert sorted(part) == [0, 0, 0, 1, 2, 2]
    assert all(len({sample.name for sample in step}) == 4 for step in steps)
