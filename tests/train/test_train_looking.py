"""Laws of the look at pictures: every fault is told at once, whatever opens is taken as a person sees it, doubles are told."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loraloom.errors import DatasetError
from loraloom.train.looking import alike, look, look_at_all, same
from loraloom.train.pictures import open_picture

Make = Callable[..., Path]


def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.*"))


def test_one_broken_picture_among_twenty_is_named_alone(tmp_path: Path, make_pictures: Make) -> None:
    folder = make_pictures(tmp_path / "p", {f"p{index:02}": None for index in range(20)})
    (folder / "p07.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"p07\.png: not a picture") as caught:
        look_at_all(paths(folder), lambda _: None)
    assert "p08" not in str(caught.value)


def test_all_broken_pictures_are_named_at_once(tmp_path: Path, make_pictures: Make) -> None:
    folder = make_pictures(tmp_path / "p", {f"p{index:02}": None for index in range(30)})
    for path in paths(folder)[5:]:
        path.write_bytes(path.read_bytes()[:90])
    heard: list[int] = []
    with pytest.raises(DatasetError) as caught:
        look_at_all(paths(folder), heard.append)
    assert str(caught.value).startswith("25 of 30 pictures cannot be used:\n")
    assert all(f"p{index:02}.png: " in str(caught.value) for index in range(5, 25))
    assert str(caught.value).endswith("\n  and 5 more")
    assert heard == list(range(1, 31))


def test_a_small_file_that_claims_many_pixels_is_refused_before_they_are_made(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DatasetError, match=r"bomb\.png: 12000×12000 pixels, the limit is"):
        look(bomb)
    bomb.write_bytes(bomb.read_bytes().replace(header[:8], struct.pack(">II", 60_000, 60_000)))
    with pytest.raises(DatasetError, match=r"bomb\.png"):
        look(bomb)


@pytest.mark.skipif("os.geteuid() == 0", reason="root reads everything")
def test_an_unreadable_file_is_named(tmp_path: Path, make_pictures: Make) -> None:
    folder = make_pictures(tmp_path / "p", {"a": None})
    (folder / "a.png").chmod(0)
    with pytest.raises(DatasetError, match=r"a\.png: cannot be read: Permission denied"):
        look(folder / "a.png")


def test_animations_are_seen_and_give_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    for ending in ("png", "webp"):
        frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
        assert look(tmp_path / f"a.{ending}").frames == 3
        assert open_picture(tmp_path / f"a.{ending}").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P", "LA", "YCbCr"])
def test_every_kind_of_colour_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.new("RGB", (16, 16), "white").convert(mode).save(path)
    picture = open_picture(path)
    assert picture.mode == "RGB"
    assert np.asarray(picture).min() >= 250


def test_a_palette_with_a_transparent_colour_is_put_on_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    assert look(tmp_path / "a.png").transparent
    assert open_picture(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


def test_a_turned_photograph_is_known_by_its_upright_size(tmp_path: Path) -> None:
    tall = Image.new("RGB", (10, 30), "red")
    exif = tall.getexif()
    exif[0x0112] = 8
    tall.save(tmp_path / "a.jpg", exif=exif)
    assert look(tmp_path / "a.jpg").size == (30, 10)


def test_doubles_are_found_by_bytes_and_by_looks(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(96) * 2)
    for name, step in (("a", 1), ("b", 1), ("other", 7)):
        Image.fromarray(np.stack([smooth * step % 256, smooth * step * 3 % 256, smooth * 0 + 40], -1).astype(np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    Image.open(tmp_path / "a.png").resize((48, 32)).save(tmp_path / "small.jpg", quality=90)
    for colour in ("red", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
    names = paths(tmp_path)
    looks = [look(path) for path in names]
    assert [[names[index].stem for index in group] for group in same(looks)] == [["a", "b"]]
    assert {(names[first].stem, names[second].stem) for first, second in alike(looks)} == {("a", "small"), ("b", "small")}
