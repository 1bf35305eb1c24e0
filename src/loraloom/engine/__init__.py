"""Adapters on a live model: attached for the time of a `with`, merged or beside the layers, and nothing left behind."""

from loraloom.engine.engine import Engine
from loraloom.engine.fallback import Fallback
from loraloom.engine.report import NetworkReport, Report

__all__ = ["Engine", "Fallback", "NetworkReport", "Report"]
