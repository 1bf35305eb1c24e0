"""What a mix becomes where no type is asked for: a LoRA, or the whole change where a LoRA would lose something or be larger."""

from loraloom.adapters import MAX_RANK
from loraloom.combine.change import Change, Module
from loraloom.combine.forms.full import full
from loraloom.combine.forms.lora import lora
from loraloom.combine.goal import Goal


def thinnest(change: Change, goal: Goal) -> Module:
    whole = goal.exact and not (change.thin and change.ranks <= MAX_RANK)
    return full(change, goal) if whole else lora(change, goal)
