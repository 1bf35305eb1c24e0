"""How a mix will run, and what this engine does not run, refused by name before anything is touched."""

from collections.abc import Sequence
from typing import Any, Literal

from loraloom.bases import Base
from loraloom.engine.live import components
from loraloom.engine.report import Mode
from loraloom.errors import NotSupported
from loraloom.lorafile import LoraFile, Mix, Stack
from loraloom.strength import Strength


def plan(mode: Literal["auto", "merge", "branch"], pipeline: Any) -> tuple[Mode, str]:
    """Constant strengths: merged once, a step costs what it costs without networks."""
    if mode not in ("auto", "merge", "branch"):
        raise NotSupported(f'no mode {mode!r}; there are "auto", "merge" and "branch"')
    if mode == "branch":
        for name, component in components(pipeline).items():
            # Dynamo does not see hooks that are added after compiling: the network would be left out in silence.
            if any(module._compiled_call_impl is not None for module in component.modules()):
                raise NotSupported(f'{name} is compiled, and a branch beside it would not run; use mode="merge"')
    return ("merge", "strengths are constant") if mode == "auto" else (mode, "asked for")


def one_stack(mixes: Mix | Sequence[Mix]) -> Stack:
    """The one stack of constant strengths that this engine runs; the rest is refused by name."""
    several = [mixes] if isinstance(mixes, Mix) else list(mixes)
    if not several:
        return ()
    if any(mix != several[0] for mix in several):
        raise NotSupported("pictures of one batch with different networks are not run yet; draw them one by one")
    if several[0].negative:
        raise NotSupported("networks in the negative prompt are not run yet; move the tags to the prompt or leave them out")
    return several[0].positive


def refuse_strength(file: LoraFile, strength: Strength, base: Base) -> None:
    """Raises NotSupported for what a Strength can say and this engine does not do. `Strength.at` does the rest."""
    if not strength.is_constant:
        raise NotSupported(f"{file.name}: strengths that change by step (schedules, start, stop) are not run yet; give one number")
    if any(part.dyn is not None for part in (strength, *strength.also)):
        raise NotSupported(f"{file.name}: dyn (only the first ranks) is not run yet; leave it out")
    other = strength.lbw_blocks - {base.blocks}
    if other:
        raise NotSupported(
            f"{file.name}: this lbw is for a base of {min(other)} blocks, {base.title} has {base.blocks}; use in=, mid= and out="
        )
