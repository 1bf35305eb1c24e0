"""Training jobs: a file for each part of what can be said, and what follows where nothing is said."""

from loraloom.train.config.jobfile import JobFile
from loraloom.train.config.option import Flags
from loraloom.train.config.resolved import ResolvedConfig, resolve
from loraloom.train.config.saving import save_config
from loraloom.train.config.train import PARTS, TrainConfig, read_config

__all__ = ["PARTS", "Flags", "JobFile", "ResolvedConfig", "TrainConfig", "read_config", "resolve", "save_config"]
