"""Other packages' types and dialects, by entry points: used where ours know nothing, named where they are broken."""

from dataclasses import dataclass
from importlib import metadata

import pytest
import torch
from safetensors.torch import save_file

from loraloom import plugins
from loraloom.adapters import Full, adapter_type, key
from loraloom.bases import NANO, Target
from loraloom.dialects import Dialect, by_name, read, write
from loraloom.errors import SettingsError, UnknownFormat
from loraloom.lorafile import LoraFile


class Shouting(Dialect):
    name = "shouting"
    title = "Shouting"
    writes = True

    def spell(self, layer, base):
        return (f"{layer.target}".upper().replace(".", "!"),)


@dataclass(frozen=True, eq=False)
class Halved(Full):
    """The change is half of what is stored."""

    name = "halved"

    diff: "torch.Tensor" = key("twice")  # noqa: RUF009

    def delta(self, weight):
        return self.diff.float() / 2


SHOUTING = Shouting()


@pytest.fixture
def installed(monkeypatch):
    """Entry points as an installed package has them."""
    points = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point for point in points if point.group == group])
    plugins.registered.cache_clear()
    yield points
    plugins.registered.cache_clear()


def test_another_packages_dialect_is_read_and_written(installed, tmp_path):
    target, diff = Target("unet", "conv_in"), torch.ones(16, 4, 3, 3)
    with pytest.raises(UnknownFormat, match="no dialect named 'shouting'"):
        by_name("shouting")
    plugins.registered.cache_clear()
    installed.append(metadata.EntryPoint("shouting", f"{__name__}:SHOUTING", "loraloom.dialects"))
    path = write(LoraFile({target: Full(diff=diff)}, {}, "nano"), tmp_path / "x.safetensors", "shouting", dtype=torch.float32)
    found = read(path)
    assert (found.dialect, found.adapters.keys()) == ("shouting", {target})
    assert torch.equal(found.adapters[target].diff, diff)


def test_another_packages_type_is_read(installed, tmp_path):
    save_file({"lora_unet_conv_in.twice": torch.full((16, 4, 3, 3), 4.0)}, tmp_path / "x.safetensors")
    assert adapter_type({"twice": (16, 4, 3, 3)}) is None
    plugins.registered.cache_clear()
    installed.append(metadata.EntryPoint("halved", f"{__name__}:Halved", "loraloom.types"))
    (adapter,) = read(tmp_path / "x.safetensors", NANO).adapters.values()
    assert torch.equal(adapter.delta(torch.zeros(16, 4, 3, 3)), torch.full((16, 4, 3, 3), 2.0))


@pytest.mark.parametrize(("value", "reason"), [("nowhere.at:all", "cannot be loaded"), ("os:sep", "is no Dialect")])
def test_a_broken_entry_point_is_named(installed, value, reason):
    installed.append(metadata.EntryPoint("broken", value, "loraloom.dialects"))
    with pytest.raises(SettingsError, match=rf"entry point broken = {value} {reason}"):
        by_name("broken")
