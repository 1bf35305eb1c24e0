"""Laws of what people put into folders: whatever Pillow opens is read, whatever is not read is named, and a text means what it says."""

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loraloom.bases import NANO
from loraloom.errors import DatasetError, SettingsError
from loraloom.train import TrainConfig, TrainingStopped, read_config, resolve, train
from loraloom.train.chance import Sample
from loraloom.train.dataset import Dataset, read_dataset
from loraloom.train.pictures import endings
from loraloom.train.preflight import preflight
from loraloom.train.texts import read_text

Make, Job = Callable[..., Path], Callable[..., TrainConfig]


def read(*folders: Path | str, **values: Any) -> Dataset:
    return read_dataset(resolve(TrainConfig.model_validate({"pictures": folders, "resolution": 16} | values), NANO))


def captions(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {picture.name: picture.captions for picture in dataset.pictures}


FORMATS = {"PNG": "png", "JPEG": "jfif", "WEBP": "webp", "BMP": "dib", "GIF": "gif", "TIFF": "tif", "AVIF": "avif", "JPEG2000": "jp2"}


@pytest.mark.parametrize(("kind", "ending"), FORMATS.items())
def test_whatever_pillow_opens_is_a_picture_in_any_case_of_its_ending(tmp_path: Path, kind: str, ending: str) -> None:
    assert f".{ending}" in endings()
    for name in (f"a.{ending}", f"b.{ending.upper()}"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / name, format=kind)
    assert set(captions(read(tmp_path))) == {f"a.{ending}", f"b.{ending.upper()}"}


def test_what_is_not_read_is_named_with_what_reads_it(pictures: Path) -> None:
    for name in ("x.HEIC", "x.jxl", "x.cr2", "x.mp4", "words.md"):
        (pictures / name).write_bytes(b"?")
    (pictures / "saved_from_web").write_bytes((pictures / "a.png").read_bytes())
    Image.new("RGB", (16, 16)).save(pictures / "b.jpg_large", format="jpeg")
    told = " | ".join(read(pictures).notes)
    assert "not read (x.HEIC): pip install pillow-heif reads them" in told
    assert "not read (x.jxl): pip install pillow-jxl-plugin reads them" in told
    assert "not read, save them as PNG or JPEG: x.cr2, x.mp4" in told
    assert "do not end as pictures' do; rename them: b.jpg_large, saved_from_web" in told
    assert "words.md" not in told


def test_a_folder_of_nothing_else_says_what_opens_it(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"?")
    with pytest.raises(DatasetError, match=r"no pictures.*a\.heic.*pip install pillow-heif"):
        read(tmp_path)


def test_links_that_lead_to_nothing_are_named_with_where_they_lead(pictures: Path, tmp_path: Path) -> None:
    (pictures / "y.png").symlink_to(tmp_path / "gone.png")
    (pictures / "z.JPG").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(pictures / "pipe.png")
    with pytest.raises(DatasetError) as caught:
        read(pictures)
    for words in (r"3 of 6 pictures", r"y.png: is a link to", "gone.jpg, which does not exist", "pipe.png: is no file"):
        assert words in str(caught.value)
    for name in ("y.png", "z.JPG", "pipe.png"):
        (pictures / name).unlink()
    (pictures / "c.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(DatasetError, match=r"c\.txt: is a link to .*gone\.txt, which does not exist"):
        read(pictures)


def test_folders_below_are_named_at_any_depth(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures(tmp_path / "set", {"stray": None})
    make_pictures(tmp_path / "set" / "x" / "y" / "z", {"a": None, "b": None})
    assert any("x/y/z/ is not read (a.png, b.png): --subfolders reads it" in note for note in read(tmp_path / "set").notes)
    make_pictures(tmp_path / "set" / "2_dog" / "more", {"a": None})
    assert any("2 folders below set with 3 pictures are not read (2_dog/more/, x/y/z/)" in note for note in read(tmp_path / "set").notes)
    assert not any("not read" in note for note in read(tmp_path / "set", subfolders=True).notes)


def test_a_count_of_zero_is_off_and_the_name_of_what_is_given_is_no_count(tmp_path: Path, make_pictures: Make) -> None:
    root = make_pictures(tmp_path / "2024_photos", {"a": None})
    make_pictures(root / "0_dog", {"b": None})
    make_pictures(root / "0_dog" / "old", {"c": None})
    found = read(root)
    assert captions(found) == {"a.png": ("",)}
    assert found.repeats == (1,)
    assert any("off: 0_dog/" in note for note in found.notes)
    assert any("so 2024 in its name is no repeat; 2024_photos:2024" in note for note in found.notes)
    assert list(captions(read(root, subfolders=True))) == ["a.png"]
    other = make_pictures(tmp_path / "other", {"d": None})
    assert list(captions(read(f"{root}:0", other))) == ["other/d.png"]
    with pytest.raises(DatasetError, match="no folder is left to train on: counts 0 times, so it is off: 2024_photos/"):
        read(f"{root}:0")


def test_lines_of_a_caption_are_captions_of_which_chance_takes_one(pictures: Path) -> None:
    (pictures / "a.txt").write_text("a cat, red\n\n  a  drawing of a cat\r\nzvz, asleep\n")
    found = read(pictures, trigger="zvz")
    lines = ("zvz, a cat, red", "zvz, a drawing of a cat", "zvz, asleep")
    assert captions(found)["a.png"] == lines
    assert any("1 picture has several captions, one a line" in note and "a.png" in note for note in found.notes)
    drawn = [found.pictures[0].caption_of(Sample(0, step, 0, "a.png#0.0")) for step in range(1, 301)]
    assert drawn == [found.pictures[0].caption_of(Sample(0, step, 0, "a.png#0.0")) for step in range(1, 301)]
    assert {line: drawn.count(line) > 60 for line in lines} == dict.fromkeys(lines, True)  # 100 each; σ = 8
    assert found.tag_frequency()["pictures"]["zvz"] == 2  # pictures, not lines: a.png and c.png
    joined = read(pictures, trigger="zvz", caption_lines="join")
    assert captions(joined)["a.png"] == ("a cat, red a drawing of a cat zvz, asleep",)
    assert joined.fingerprint != found.fingerprint


def test_several_captions_resume_to_the_same_bits_with_and_without_a_cache(job: Job, nano: Any, pictures: Path, tmp_path: Path) -> None:
    (pictures / "a.txt").write_text("a cat\na dog\na bird")
    straight = train(job(output=tmp_path / "straight"), nano, NANO)
    left = iter([False, False, True])
    with pytest.raises(TrainingStopped):
        train(job(cache=str(tmp_path / "cache")), nano, NANO, stop=lambda: next(left))
    assert train(job(cache=str(tmp_path / "cache"), resume=True), nano, NANO).hash == straight.hash
    assert train(job(output=tmp_path / "joined", caption_lines="join"), nano, NANO).hash != straight.hash


def test_names_in_a_list_are_files_however_they_are_written(tmp_path: Path, make_pictures: Make) -> None:
    names = ["a", "b", "c", "d", "é", "f"]
    root = make_pictures(tmp_path / "set", dict.fromkeys(names))
    make_pictures(root / "2_sub", {"g": None, "h": "beside it"})
    written = {
        "./a.png": ("file_name", "text"),
        "B.PNG": ("image", "caption"),
        str(root / "c.png"): ("path", "prompt"),
        ".\\d.png": ("filename", "text"),
        unicodedata.normalize("NFD", "é.png"): ("file_name", "text"),
        "2_sub\\g.png": ("file_name", "text"),
        "2_sub/h.png": ("file_name", "text"),
    }
    lines = [json.dumps({key: name, text: f"of {name[-5:]}"}) for name, (key, text) in written.items()]
    lines += [json.dumps({"file_name": "f.png", "text": "one"}), json.dumps({"file_name": "f.png", "text": ["two", "three"]})]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    found = read(root)
    told = captions(found)
    assert [told[f"{name}.png"] == (f"of {key[-5:]}",) for name, key in zip(names, written, strict=False)][:5] == [True] * 5
    assert told["2_sub/g.png"] == ("of g.png"[:3] + "g.png"[-5:],)
    assert told["2_sub/h.png"] == ("beside it",)
    assert told["f.png"] == ("one", "two", "three")
    assert not any("not there" in note for note in found.notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_with_a_mark_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("ein grünes Haus".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "ein grünes Haus"


ENCODINGS = {
    "latin-1": "ein grünes Haus, zwei Bäume",
    "cp1252": "ein „grünes“ Haus – 5 €",
    "utf-16-le": "a green house",
    "utf-16-be": "a green house",
    "cp932": "緑色の家と大きな木、青い空と白い雲が見える",
    "cp1251": "зелёный дом и большое дерево на берегу реки, синее небо",
}


def test_texts_that_are_not_utf_8_are_named_at_once_with_what_fits(tmp_path: Path, make_pictures: Make) -> None:
    folder = make_pictures(tmp_path / "set", dict.fromkeys(ENCODINGS, "x"))
    for name, text in ENCODINGS.items():
        (folder / f"{name}.txt").write_bytes(text.encode(name))
    with pytest.raises(DatasetError) as caught:
        read(folder)
    message = str(caught.value)
    assert f"{len(ENCODINGS)} caption files are not UTF-8 text" in message
    assert "--caption-encoding" in message
    for name in ENCODINGS:
        line = next(line for line in message.splitlines() if f"{name}.txt" in line)
        probable = line.rpartition(" ")[2]
        assert ENCODINGS[name].encode(name).decode(probable) == ENCODINGS[name]
    for name, text in ENCODINGS.items():
        one = make_pictures(tmp_path / name, {"a": "already UTF-8: ü", "b": "x"})
        (one / "b.txt").write_bytes(text.encode(name))
        assert captions(read(one, caption_encoding=name)) == {"a.png": ("already UTF-8: ü",), "b.png": (text,)}
    with pytest.raises(SettingsError, match=r"caption_encoding = 'utf-9' is no encoding of text; common are latin-1"):
        read_config({"pictures": folder, "caption_encoding": "utf-9"})


def test_the_trigger_has_the_place_that_a_caption_gives_it(pictures: Path) -> None:
    (pictures / "a.txt").write_text("a photo of [trigger], sitting")
    (pictures / "b.txt").write_text("[Name] on a hill")
    found = captions(read(pictures, trigger="zvz"))
    assert (found["a.png"], found["b.png"]) == (("a photo of zvz, sitting",), ("zvz on a hill",))
    assert any("[trigger]" in note and "--trigger" in note for note in preflight(TrainConfig(pictures=(pictures,)), NANO).facts.notes)
