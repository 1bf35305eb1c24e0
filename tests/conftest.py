"""What many tests need: the random base, LoRA files for it, and nothing of this computer's own settings."""

import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom import dialects
from loraloom.adapters import LoRA
from loraloom.bases import NANO, Base
from loraloom.bases.nano.model import load
from loraloom.lorafile import LoraFile

# Tests send themselves Ctrl-C. What a shell without job control starts in the background ignores it, and would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def nano() -> Any:
    """One pipeline for all tests that leave it as they found it; silent."""
    pipeline = load()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def make_lora(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a random LoRA; the same arguments give the same bytes, which are worked out once."""
    made: dict[str, Path] = {}

    def make(path: Path, base: Base = NANO, seed: int = 0, **options: Any) -> Path:
        key = f"{base.family} {seed} {options}"
        if key not in made:
            made[key] = write_random_lora(tmp_path_factory.mktemp("made") / "x.safetensors", base, seed, **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(made[key], path.with_name("arriving"))).replace(path)  # whole, also where one lies and is read

    return make


def write_random_lora(
    path: Path, base: Base, seed: int, *, rank: int = 4, size: float = 0.5, metadata: dict[str, str] | None = None
) -> Path:
    """LoRAs on every attention layer of `base`; `size` is the spread of the values of `up`."""
    generator = torch.Generator().manual_seed(seed)
    adapters = {}
    for layer in base.layers:
        if layer.attention and layer.kind in ("linear", "conv"):
            fresh = LoRA.init(torch.zeros(layer.shape), rank=rank, alpha=rank, generator=generator)
            adapters[layer.target] = fresh.with_tensors({"up": torch.randn(fresh.up.shape, generator=generator) * size})
    return dialects.write(LoraFile(adapters, metadata or {}, base.family), path)


_TESTS = count()


@pytest.fixture(autouse=True)
def _no_settings_of_this_computer(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file of its own for each test, so that what one sets no other one sees."""
    monkeypatch.setenv("LORALOOM_SETTINGS", str(tmp_path_factory.getbasetemp() / f"settings-{next(_TESTS)}.toml"))
    monkeypatch.setenv("LORALOOM_LIBRARY_INDEX", str(tmp_path_factory.getbasetemp() / "library.sqlite"))
