"""Training: a folder of pictures and a base model in, a LoRA file out. `train` runs a `TrainConfig`; the job is described without torch."""

from typing import TYPE_CHECKING, Any

from loraloom.train.config import ResolvedConfig, TrainConfig, read_config, resolve
from loraloom.train.result import Progress, TrainingStopped, TrainResult

if TYPE_CHECKING:
    from loraloom.train.loop import train as train

__all__ = ["Progress", "ResolvedConfig", "TrainConfig", "TrainResult", "TrainingStopped", "read_config", "resolve", "train"]


def __getattr__(name: str) -> Any:
    """`train` on first use: the loop needs Pillow and, soon after, torch."""
    if name == "train":
        from loraloom.train.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
