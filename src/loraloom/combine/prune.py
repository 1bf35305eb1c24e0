"""A part of a network, in the words of the prompt language: `te`, `unet`, `mid`, `OUT03`. No torch."""

from collections.abc import Callable
from typing import Any

from loraloom.bases import Base
from loraloom.errors import SettingsError, suggestion
from loraloom.prompts.tag import SCHEDULE_KEYS
from loraloom.schedule import Schedule
from loraloom.strength import LBW_BLOCKS, LBW_PRESETS, Place, Strength

_ALIASES = {"transformer": "unet", "dit": "unet"}


def part(word: str, base: Base) -> Callable[[Place], bool]:
    """Whether a place of `base` belongs to what a word means: what a prompt calls a part of the model (`te`, `te1`, `unet`, `in`, `mid`,
    `out`), a component (`text_encoder_2`), a block as `loraloom check` lists it (`IN04`), or a block-weight preset (`OUTALL`).

    Raises SettingsError for any other word, naming the nearest.
    """
    if word in base.components:
        return lambda place: place.component == word
    key = _ALIASES.get(word, word)
    if key in SCHEDULE_KEYS:
        alone: dict[str, Any] = {SCHEDULE_KEYS[key]: Schedule.of(1.0)}
        return _where(Strength(Schedule.of(0.0), **alone))
    blocks = {name: number for number, name in base.block_names.items()}
    if (block := blocks.get(word.upper())) is not None:
        return lambda place: place.block == block
    presets = {name: factors for name, factors in LBW_PRESETS.items() if LBW_BLOCKS[len(factors)][0] == base.blocks}
    if factors := presets.get(word.upper()):
        return _where(Strength(lbw=factors))
    known = dict.fromkeys((*SCHEDULE_KEYS, *base.components, *blocks, *presets))
    hint = suggestion(word, known) or f"; there are {', '.join(known)}"
    raise SettingsError(f'"{word}" is no part of {base.title}{hint}')


def _where(strength: Strength) -> Callable[[Place], bool]:
    return lambda place: strength.at(place, 1, 1) != 0
