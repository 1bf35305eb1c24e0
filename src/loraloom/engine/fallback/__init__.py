"""Pipelines that the native engine does not know: plain LoRA through diffusers and PEFT."""

from loraloom.engine.fallback.runner import Fallback

__all__ = ["Fallback"]
