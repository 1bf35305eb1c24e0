"""Pictures and jobs for trainer tests: tiny, made on the fly, the same every time."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loraloom import plotting
from loraloom.bases.nano.model import load
from loraloom.train import TrainConfig

sys.path.append(str(Path(__file__).parent.parent / "contract"))  # support.py


@pytest.fixture(scope="session")
def nano() -> Any:
    return load()


class Pixel:
    """A figure that is drawn at once."""

    @staticmethod
    def savefig(path: Path, **_: Any) -> None:
        Image.new("RGB", (1, 1)).save(path, "png")


@pytest.fixture
def real_plots() -> None:
    """For tests that look at a run's plot."""


@pytest.fixture(autouse=True)
def _plots_of_one_pixel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib draws for 0.12 s, which is longer than most runs here; the file is written as ever."""
    if "real_plots" not in request.fixturenames:
        monkeypatch.setattr("loraloom.train.run.draw_loss", lambda path, *_: plotting.save(Pixel(), path, overwrite=True))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, two of them with captions."""
    return _make(tmp_path / "pictures", {"a": "a red cat, sitting", "b": "zvz on a hill, blue sky", "c": None})


@pytest.fixture
def job(pictures: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    def make(**values: Any) -> TrainConfig:
        defaults = {"pictures": pictures, "trigger": "zvz", "base": "nano", "output": tmp_path / "out" / "zvz.safetensors", "steps": 6}
        return TrainConfig.model_validate(defaults | {"save_every": 100} | values)

    return make


@pytest.fixture
def make_pictures() -> Callable[..., Path]:
    return _make


def _make(folder: Path, captions: dict[str, str | None], *, size: tuple[int, int] = (24, 20)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, caption) in enumerate(captions.items()):
        values = np.random.default_rng(index).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{name}.png")
        if caption is not None:
            (folder / f"{name}.txt").write_text(caption)
    return folder
