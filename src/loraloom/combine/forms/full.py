"""A change as the whole matrix: nothing is lost."""

from loraloom.adapters import Full
from loraloom.combine.change import Change, Module
from loraloom.combine.goal import Goal
from loraloom.errors import SettingsError


def full(change: Change, goal: Goal) -> Module:
    """Raises SettingsError for a goal: a whole matrix has the same size whatever its rank."""
    if not goal.exact:
        raise SettingsError(f"full has the whole change, whatever its rank: it does not go with {goal.words}; give the type alone")
    return change.made(Full(diff=change.matrix.reshape(change.layer.shape).contiguous(), bias=change.bias))
