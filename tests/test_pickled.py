"""Laws of pickles: tensors come out as they are, nothing else runs, and every refusal is a sentence."""

import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from loraloom import pickled
from loraloom.errors import FileError


class Harmful:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


TENSORS = {"a.lora_up.weight": torch.randn(4, 2), "a.lora_down.weight": torch.randn(2, 4).half(), "a.alpha": torch.tensor(2)}


# Each case is a process that imports torch, which takes seconds: few of them, and each another way to be stored.
@pytest.mark.parametrize(
    ("content", "zipped"),
    [({"state_dict": TENSORS, "epoch": 3}, True), ({key: torch.nn.Parameter(value.float()) for key, value in TENSORS.items()}, False)],
    ids=["checkpoint", "parameters"],
)
def test_the_tensors_come_out_as_they_are(tmp_path, content, zipped):
    path = tmp_path / "x.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    expected = content.get("state_dict", content)
    with pickled.opened(path) as found:
        tensors, place = load_file(found.path), found.path
    assert not place.exists()
    assert found.left_out == ()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[key], expected[key].detach()) and tensors[key].dtype == expected[key].dtype for key in expected)


def test_numbers_become_tensors_and_what_is_neither_is_told(tmp_path):
    torch.save({"a.alpha": 4, "a.up": torch.ones(2), "name": "ink", "flag": True}, tmp_path / "x.ckpt")
    with pickled.opened(tmp_path / "x.ckpt") as found:
        assert float(load_file(found.path)["a.alpha"]) == 4
    assert found.left_out == ("name", "flag")


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (torch.save, r"asks Python for posix\.system when it is opened"),
        (lambda content, path: path.write_bytes(pickle.dumps(content)), "is not a file of tensors that torch wrote"),
    ],
    ids=["torch", "pickle"],
)
def test_nothing_that_a_pickle_asks_for_is_run(tmp_path, save, message):
    path, left = tmp_path / "x.pt", tmp_path / "left"
    save({"x": Harmful(f"touch {left}"), "y": torch.ones(1)}, path)
    with pytest.raises(FileError, match=rf"x\.pt: {message}.*it was not opened"), pickled.opened(path):
        pass
    assert not left.exists()


def test_a_module_beside_the_file_is_not_imported(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "x.pt")
    (tmp_path / "torch.py").write_text("raise SystemExit('imported the wrong torch')")
    monkeypatch.chdir(tmp_path)
    with pickled.opened(tmp_path / "x.pt") as found:
        assert len(load_file(found.path)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_a_small_file_cannot_ask_for_all_of_the_memory(tmp_path):
    torch.save({"x": torch.zeros(1).expand(2**34)}, tmp_path / "x.pt")  # 64 GB of one number
    with pytest.raises(FileError, match="takes more memory or time than its size allows"), pickled.opened(tmp_path / "x.pt"):
        pass


def test_what_holds_no_tensors_or_is_no_pickle_says_so(tmp_path):
    torch.save([1, 2], tmp_path / "x.bin")
    with pytest.raises(FileError, match="it holds no tensors"), pickled.opened(tmp_path / "x.bin"):
        pass
    (tmp_path / "x.bin").write_bytes(b"PK\3\4" + b"x" * 100)
    with pytest.raises(FileError, match="is not a file of tensors that torch wrote"), pickled.opened(tmp_path / "x.bin"):
        pass


def test_a_process_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "x.pt")

    def late(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(FileError, match="took longer than 300 s"), pickled.opened(tmp_path / "x.pt"):
        pass


def test_what_is_not_there_or_too_large_is_an_error_before_anything_is_opened(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="cannot be read"), pickled.opened(tmp_path / "x.pt"):
        pass
    torch.save(TENSORS, tmp_path / "x.pt")
    monkeypatch.setattr(pickled, "MAX_BYTES", 10)
    with pytest.raises(FileError, match="the limit for a pickle is 10"), pickled.opened(tmp_path / "x.pt"):
        pass
