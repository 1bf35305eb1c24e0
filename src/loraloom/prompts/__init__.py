"""The prompt language: text in, text and LoRA tags out. See docs/prompts.md."""

from loraloom.prompts.emphasis import weighted
from loraloom.prompts.prompt import Prompt, compose, parse, parse_lenient
from loraloom.prompts.tag import LoraTag

__all__ = ["LoraTag", "Prompt", "compose", "parse", "parse_lenient", "weighted"]
