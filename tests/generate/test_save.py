"""Laws of saving: complete or not there, never over another picture, and a full disk is said."""

import errno
import os
import subprocess

import pytest
from PIL import Image

from loraloom.errors import WriteFailed
from loraloom.generate.save import save_numbered, save_png, slug

NOISE = Image.frombytes("RGB", (256, 256), os.urandom(256 * 256 * 3))  # does not compress: 190 KB


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KB; root only."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_nothing_half(small_disk):
    save_png(Image.new("RGB", (8, 8)), small_disk / "old.png", "")
    before = (small_disk / "old.png").read_bytes()
    with pytest.raises(WriteFailed, match="No space left on device; free some space"):
        save_png(NOISE, small_disk / "new.png", "")
    with pytest.raises(WriteFailed):
        save_png(NOISE, small_disk / "old.png", "", overwrite=True)
    assert [path.name for path in small_disk.iterdir()] == ["old.png"]
    assert (small_disk / "old.png").read_bytes() == before


def test_a_failing_disk_leaves_nothing_half(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteFailed, match="free some space"):
        save_png(NOISE, tmp_path / "a.png", "")
    assert not list(tmp_path.iterdir())


def test_a_picture_is_never_written_over_unless_asked(tmp_path):
    path = save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", "first")
    with pytest.raises(WriteFailed, match="is there already"):
        save_png(Image.new("RGB", (8, 8)), path, "second")
    assert Image.open(path).info["parameters"] == "first"
    save_png(Image.new("RGB", (8, 8)), path, "second", overwrite=True)
    assert Image.open(path).info["parameters"] == "second"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a-2.png", "a.png"]  # the second one, kept where the first one stayed


def test_numbers_go_on_from_the_highest(tmp_path):
    image = Image.new("RGB", (8, 8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0041-a.png").touch()
    names = [save_numbered(image, tmp_path / "out", title, "").name for title in ("A castle, at night!", "", "Größe 城/../x")]
    assert names == ["0042-a-castle-at-night.png", "0043-picture.png", "0044-größe-城-x.png"]


def test_a_file_system_without_hard_links_works_too(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", no_links)
    save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", "")
    with pytest.raises(WriteFailed, match="is there already"):
        save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", "")


def test_a_name_is_a_file_name_everywhere():
    assert slug("../../etc/passwd") == "etc-passwd"
    assert len(slug("城" * 500).encode()) <= 160
