"""The nouns that every room passes on: a network (all adapters of one file), a stack of them, a mix."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter
from loraloom.bases import Target
from loraloom.strength import Strength

if TYPE_CHECKING:
    from torch import Tensor

Metadata = Mapping[str, str]
Embeddings = Mapping[str, Mapping[str, "Tensor"]]  # by word and component: [vectors, width]


@dataclass(frozen=True, eq=False)
class LoraFile:
    """A network as it was read, or as it will be written. Its identity is the file, not the name."""

    adapters: Mapping[Target, Adapter]
    metadata: Metadata = field(default_factory=dict)
    base: str = ""  # family: "sd1", "tiny", ...
    unknown: tuple[str, ...] = ()  # keys of the file that became no adapter, each as "key: reason"
    warnings: tuple[str, ...] = ()  # what is doubtful about the file as a whole, in sentences
    dialect: str = ""  # the one that it was read with
    path: Path | None = None
    made_for: str = ""  # the family that the file speaks for and how that is known; empty if it was not read from a file
    alpha_from: str = "alpha as made"  # where the scales of its adapters come from, in words
    embeddings: Embeddings = field(default_factory=dict)  # words that come with it, known while it is attached
    called: str = ""  # what tells it from other files of its name; empty: the file's own name

    @property
    def name(self) -> str:
        """What messages and recipes call it: one line that can be written, with � for line ends and for bytes that are no text."""
        own = os.fsencode(self.path.stem).decode("utf-8", "replace") if self.path else self.metadata.get("ss_output_name", "unnamed")
        return "�".join((self.called or own).splitlines())

    @property
    def nbytes(self) -> int:
        return sum(adapter.nbytes for adapter in self.adapters.values())


Stack = Sequence[tuple[LoraFile, Strength]]


@dataclass(frozen=True)
class Mix:
    """What one picture uses: `positive` on both halves of guidance, `negative` on the unconditional half in addition."""

    positive: Stack = ()
    negative: Stack = ()
