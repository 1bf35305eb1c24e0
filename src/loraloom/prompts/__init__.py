"""The prompt language: text in, text and LoRA tags out. See docs/prompts.md."""

from loraloom.prompts.emphasis import unmarked, weighted
from loraloom.prompts.prompt import Prompt, compose, parse, parse_lenient, with_strengths
from loraloom.prompts.tag import LoraTag, spelled, unquoted
from loraloom.prompts.triggers import Given, choose, give_triggers

__all__ = [
    "Given",
    "LoraTag",
    "Prompt",
    "choose",
    "compose",
    "give_triggers",
    "parse",
    "parse_lenient",
    "spelled",
    "unmarked",
    "unquoted",
    "weighted",
    "with_strengths",
]
