"""`loraloom example`: the pictures of the package, put down where training finds them, and never over another file."""

import pytest

from loraloom.errors import WriteFailed
from loraloom.examples import example_sets, put_examples


def test_every_picture_comes_with_its_caption(tmp_path):
    [delft] = put_examples(tmp_path / "examples")
    names = {path.name for path in (example_sets() / "delft").iterdir()}
    assert {path.name for path in delft.iterdir()} == names
    assert len(names) == 48
    assert all(path.with_suffix(".txt").read_text("utf-8").strip() for path in delft.glob("*.png"))
    assert sum(path.stat().st_size for path in delft.iterdir()) < 300_000  # bytes: the package stays small


def test_what_is_there_already_stays(tmp_path):
    [delft] = put_examples(tmp_path)
    assert put_examples(tmp_path) == (delft,)
    (delft / "fox.txt").write_text("mine")
    (delft / "key.png").unlink()
    with pytest.raises(WriteFailed, match=r"fox\.txt is there already and was not touched"):
        put_examples(tmp_path)
    assert (delft / "fox.txt").read_text() == "mine"
    assert not (delft / "key.png").exists()
