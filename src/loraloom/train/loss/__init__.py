"""The loss of a sample: noise in (`process`), a distance out (`distance`), and how much its timestep counts (`weights`)."""

from loraloom.train.loss.distance import distance, per_sample, thresholds
from loraloom.train.loss.process import Prediction, Process
from loraloom.train.loss.terminal import zero_terminal
from loraloom.train.loss.weights import debiased, min_snr

__all__ = ["Prediction", "Process", "debiased", "distance", "min_snr", "per_sample", "thresholds", "zero_terminal"]
