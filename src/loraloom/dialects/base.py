"""A dialect: how a file names the tensors of each target. Names are spelled, never parsed.

Un-flattening `lora_unet_down_blocks_0_attentions_0` by rule is guesswork, but every module of a base is known: spell them
all, look a file's keys up, and what is not found is known to be unknown.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters import SUFFIXES, Adapter
from loraloom.bases import Base, Layer, Target

if TYPE_CHECKING:
    from torch import Tensor

_MAX_PARTS = 24  # of a module's name between dots; the deepest of today's models have 12


class Dialect(ABC):
    """One way of naming tensors. Instances have no state; everything follows from the spelling of a layer."""

    name: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[Mapping[str, str]] = {}  # this dialect's suffix -> ours, where they differ

    @abstractmethod
    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        """Every prefix under which files of this dialect store the tensors of a layer of `base`; the first is the one written."""

    def known_suffixes(self) -> Mapping[str, str]:
        """Our suffix by the dialect's; our own spelling is understood everywhere, as many tools mix them."""
        return {suffix: suffix for suffix in SUFFIXES} | dict(self.suffixes)

    def fix(
        self, group: "dict[str, Tensor]", spelled: Mapping[str, str], target: Target, metadata: Mapping[str, str]
    ) -> "dict[str, Tensor]":
        """Mend what this dialect stores differently. `group` has our suffixes, `spelled` the file's key for each."""
        return group

    def write_tensors(self, adapter: Adapter, layer: Layer, base: Base) -> "dict[str, Tensor]":
        """The adapter's tensors under this dialect's names; raises DialectCannotHold."""
        prefix = self.spell(layer, base)[0]
        return {f"{prefix}.{suffix}": tensor for suffix, tensor in adapter.tensors().items()}

    def write_metadata(self, adapters: Mapping[Target, Adapter]) -> Mapping[str, str]:
        """What readers of this dialect need beside the tensors."""
        return {}


def split(key: str, book: Mapping[str, Target]) -> tuple[Target, str] | None:
    """(target, suffix) of a key, or None. Prefixes contain dots in most dialects, so every dot is tried."""
    position = -1
    for _ in range(_MAX_PARTS):
        position = key.find(".", position + 1)
        if position < 0:
            break
        target = book.get(key[:position])
        if target is not None:
            return target, key[position + 1 :]
    return None
