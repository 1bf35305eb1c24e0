"""Laws of sheets: every picture and every label is there, whole, and none covers another."""

import numpy as np
import pytest
from PIL import Image

from loraloom.generate.grid import sheet

COLORS = ["#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ff00ff", "#00ffff"]


def flat(color, size=(64, 64)):
    return Image.new("RGB", size, color)


@pytest.mark.parametrize("size", [(64, 64), (16, 24), (512, 256)])
def test_every_picture_is_there_whole_and_enlarged_by_a_whole_factor(size):
    page = sheet(["one", "two"], ["a", "b", "c"], [[flat(c, size) for c in COLORS[:3]], [flat(c, size) for c in COLORS[3:]]])
    found = np.asarray(page).reshape(-1, 3)
    counts = {color: int((found == np.array(Image.new("RGB", (1, 1), color))[0, 0]).all(1).sum()) for color in COLORS}
    assert len(set(counts.values())) == 1
    factor = (counts[COLORS[0]] / (size[0] * size[1])) ** 0.5
    assert factor == int(factor)
    assert min(size) * factor >= 192


def test_a_sheet_grows_with_its_labels():
    row = [[flat("#888888")]]
    plain = sheet(["a"], ["b"], row)
    assert sheet(["a " * 200], ["b"], row).height > plain.height
    assert sheet(["a"], ["b " * 200], row).height > plain.height
    assert sheet(["a" * 300], ["b" * 300], row).width < 3 * plain.width  # one long word is broken, not cut
    assert sheet(["a"], ["b"], row, caption="tiny · seed 3").height > plain.height


def test_margins_are_white_and_labels_are_not():
    page = np.asarray(sheet(["a prompt"], ["base"], [[flat("#888888")]], caption="seed 3"))
    for border in (page[:10], page[-10:], page[:, :10], page[:, -10:]):
        assert (border == 255).all()
    assert (page.min(axis=2) < 60).sum() > 100  # ink
