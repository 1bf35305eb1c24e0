"""A dialect: how a file names the tensors of each target. Names are spelled, never parsed.

Un-flattening `lora_unet_down_blocks_0_attentions_0` by rule is guesswork, but every module of a base is known: spell them
all, look a file's keys up, and what is not found is known to be unknown.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from loraloom.adapters import SUFFIXES, Adapter, Shape, adapter_type
from loraloom.bases import Base, Layer, Target
from loraloom.dialects import quirks
from loraloom.dialects.stored import stored
from loraloom.errors import DialectCannotHold
from loraloom.lorafile import Embeddings

if TYPE_CHECKING:
    from torch import Tensor

# Endings that mean the same in every dialect, as tools mix them; ours are in adapters.SUFFIXES.
SPELLINGS: Mapping[str, str] = {
    "lora_A.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight",
    "lora_A": "lora_down.weight",  # AdaLoRA's, and those of others that hold a parameter in place of a layer
    "lora_B": "lora_up.weight",
    "lora_E": "lora_E",  # AdaLoRA's factors of the ranks: quirks.py
    "lora_B.bias": "diff_b",
    "lora.down.weight": "lora_down.weight",
    "lora.up.weight": "lora_up.weight",
    "lora_linear_layer.down.weight": "lora_down.weight",
    "lora_linear_layer.up.weight": "lora_up.weight",
    "lora_embedding_A": "lora_up.weight",  # transposed: quirks.py
    "lora_embedding_B": "lora_down.weight",
    "lora_magnitude_vector": "dora_scale",
    "lora_magnitude_vector.weight": "dora_scale",
    "magnitude": "dora_scale",
    "ia3_l": "weight",
}


class Dialect(ABC):
    """One way of naming tensors. Instances have no state; everything follows from the spelling of a layer."""

    name: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[Mapping[str, str]] = {}  # endings that only this dialect has -> ours
    separator: ClassVar[str] = "."  # between a module's name and the ending
    writes: ClassVar[bool] = False  # whether files are written in it
    folder: ClassVar[bool] = False  # whether a network is a folder instead of one file
    configured: ClassVar[bool] = True  # whether alpha may stand in a PEFT config instead of a tensor

    @abstractmethod
    def spell(self, layer: Layer, base: Base) -> tuple[str, ...]:
        """Every prefix under which files of this dialect store the tensors of a layer of `base`; the first is the one written."""

    def refuse(self, targets: Collection[Target], base: Base) -> str | None:
        """Why a file that names these targets is none of this dialect after all; None where names say enough."""
        return None

    def reason(self, key: str) -> str | None:
        """Why a key that names no module is in files of this dialect, or None."""
        return None

    def shapes(self, shapes: Mapping[str, Shape], spelled: Mapping[str, str], layer: Layer) -> Mapping[str, Shape]:
        """The shapes, by our suffix, that `fix` leaves of a group; `spelled` is the file's key for each."""
        return quirks.shapes(shapes, spelled, layer)

    def kind(
        self, found: Mapping[str, Shape], shapes: Mapping[str, Shape], layer: Layer, metadata: Mapping[str, str]
    ) -> type[Adapter] | None:
        """The type of a group with the shapes `found` in the file, which are `shapes` inside; None for no type. Raises UnknownFormat for
        what the metadata says is none that is read."""
        return quirks.kind(adapter_type(shapes), found, layer, metadata if self.configured else {})

    def fix(self, group: "dict[str, Tensor]", spelled: Mapping[str, str], layer: Layer, metadata: Mapping[str, str]) -> "dict[str, Tensor]":
        """Mend what files store differently. `group` has our suffixes, `spelled` the file's key for each."""
        return quirks.mend(group, spelled, layer, metadata if self.configured else None)

    def write_tensors(self, adapter: Adapter, layer: Layer, base: Base) -> "dict[str, Tensor]":
        """The adapter's tensors under this dialect's names; raises DialectCannotHold."""
        prefix = self.spell(layer, base)[0]
        return {f"{prefix}.{suffix}": tensor for suffix, tensor in stored(adapter, layer).items()}

    def write_embeddings(self, embeddings: Embeddings, base: Base) -> "dict[str, Tensor]":
        """Words that come with the network, under this dialect's names; raises DialectCannotHold."""
        if embeddings:
            word = next(iter(embeddings))
            raise DialectCannotHold(
                f"{word!r}: {self.title} naming has no place for an embedding that comes with a network; write it in kohya naming",
                fields=("dialect",),
            )
        return {}

    def write_metadata(self, adapters: Mapping[Target, Adapter], base: Base) -> Mapping[str, str]:
        """What readers of this dialect need beside the tensors."""
        return {}

    def cannot_hold(self, layer: Layer, what: str) -> DialectCannotHold:
        text = f"{layer.target}: {self.title} naming has no place for {what}; write it in kohya naming"
        return DialectCannotHold(text, fields=("dialect",))


class Book:
    """Target by prefix, for the layers of a base, or of one component of it. Where two layers share a spelling, the first has it."""

    def __init__(self, dialect: Dialect, base: Base, component: str | None = None) -> None:
        self._by_prefix: dict[str, Target] = {}
        for layer in base.layers:
            if component in (None, layer.target.component):
                for prefix in dialect.spell(layer, base):
                    self._by_prefix.setdefault(prefix, layer.target)
        self._separator = dialect.separator
        self._heads = {prefix.partition(dialect.separator)[0] for prefix in self._by_prefix}
        self._parts = 1 + max((prefix.count(dialect.separator) for prefix in self._by_prefix), default=0)
        self._suffixes = {suffix: suffix for suffix in SUFFIXES} | dict(SPELLINGS) | dict(dialect.suffixes)

    def find(self, key: str) -> tuple[Target, str] | None:
        """(target, our suffix) of a key, or None. An unknown ending is kept as it is, so that no adapter is built from a part
        of its tensors. Prefixes contain dots in most dialects, so every dot is tried."""
        separator = self._separator
        position = key.find(separator)
        if position < 0 or key[:position] not in self._heads:
            return None
        for _ in range(self._parts):
            target = self._by_prefix.get(key[:position])
            if target is not None:
                return target, self._suffixes.get(key[position + 1 :], key[position + 1 :])
            position = key.find(separator, position + 1)
            if position < 0:
                break
        return None


@cache
def book(dialect: Dialect, base: Base, component: str | None = None) -> Book:
    """The one book of this dialect and base."""
    return Book(dialect, base, component)
