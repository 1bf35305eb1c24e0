"""Laws of small numbers: the value that torch reads, of every dtype, and nothing else of the file."""

import math

import pytest
import torch
from safetensors.torch import save_file

from loraloom.errors import FileError
from loraloom.scalars import read_numbers
from loraloom.tensorfile import Header

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_number_is_the_one_that_torch_reads(tmp_path, dtype, shape):
    values = {f"a{index}": torch.full(shape, value).to(dtype) for index, value in enumerate((0.0, 3.0, 12.5, 100.0))}
    save_file(values, tmp_path / "x.safetensors")
    found = read_numbers(Header.read(tmp_path / "x.safetensors"), values)
    assert found == {name: float(tensor) for name, tensor in values.items()}


def test_numbers_that_are_not_finite_are_told_as_they_are(tmp_path):
    save_file({"nan": torch.tensor(float("nan")), "inf": torch.tensor(float("-inf")).bfloat16()}, tmp_path / "x")
    found = read_numbers(Header.read(tmp_path / "x"), ["nan", "inf"])
    assert math.isnan(found["nan"])
    assert found["inf"] == float("-inf")


def test_tensors_of_several_elements_are_left_out(tmp_path):
    save_file({"a": torch.ones(2), "b": torch.ones(0), "c": torch.ones(1)}, tmp_path / "x")
    assert read_numbers(Header.read(tmp_path / "x"), ["a", "b", "c"]) == {"c": 1.0}


def test_a_file_that_changed_meanwhile_is_an_error(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "x")
    header = Header.read(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(FileError, match="cut short"):
        read_numbers(header, ["a"])
    save_file({"a": torch.ones(1)}, tmp_path / "x", {"other": "metadata"})
    with pytest.raises(FileError, match=r"changed|cut short"):
        read_numbers(header, ["a"])
