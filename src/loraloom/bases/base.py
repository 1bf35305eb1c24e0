"""What a base model's modules are called. Names, shapes and blocks only: no torch, no weights."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from loraloom.bases.singlefile import Kept
from loraloom.errors import NotSupported, SettingsError, suggestion
from loraloom.strength import Place, Strength, is_text_encoder

Third = Literal["in", "mid", "out"]
TEXT_ENCODERS = "te"  # as a component: every text encoder of the base, as in a prompt
Kind = Literal["linear", "conv", "norm", "embedding"]


class Target(NamedTuple):
    """One module of one component, by the names that diffusers and transformers 4 gave them: the names that files use."""

    component: str  # "unet", "text_encoder", ...
    module: str  # "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"

    def __str__(self) -> str:
        return f"{self.component}.{self.module}"


@dataclass(frozen=True)
class Layer:
    """A module that can take an adapter."""

    target: Target
    kind: Kind
    shape: tuple[int, ...]  # of its weight
    third: Third | None = None  # of the denoiser; None for text encoders
    block: int | None = None  # in order of execution, as block weight vectors count; None before and after the blocks
    original: str | None = None  # the name in checkpoints from before diffusers, where there was one
    attention: bool = False  # inside a Transformer2DModel or a text encoder's layer: what LoRA trains by default
    unread: bool = False  # what it gives goes nowhere: files have it, training would teach it nothing

    @cached_property
    def place(self) -> Place:
        return Place(self.target.component, self.third, self.block)


@dataclass(frozen=True, eq=False)
class Base:
    """A family of base models whose adapters are interchangeable. There is one object for each."""

    family: str  # "sd1"
    title: str  # "SD 1.x", as messages say it
    layers: tuple[Layer, ...] = field(repr=False)
    context_width: int  # input of the cross-attention's keys: what tells the families apart
    text_widths: tuple[int, ...]  # of the text encoders, in order
    version: str  # ss_base_model_version
    architecture: str  # modelspec.architecture without "/lora"
    resolution: int  # pixels a side that it was trained at
    single_file: Mapping[str, Kept] = field(default_factory=dict, repr=False)  # each component in a checkpoint of one file

    @cached_property
    def by_target(self) -> Mapping[Target, Layer]:
        return {layer.target: layer for layer in self.layers}

    @cached_property
    def blocks(self) -> int:
        """How many numbers a full block weight vector has, BASE aside."""
        return 1 + max((layer.block for layer in self.layers if layer.block is not None), default=-1)

    def require_blocks(self, name: str, strength: Strength) -> None:
        """Raises NotSupported where the block weights given for the network `name` count the blocks of another family: modules would
        be left out without a word."""
        if other := strength.lbw_blocks - {self.blocks}:
            raise NotSupported(
                f"{name}: this lbw is for a base of {min(other)} blocks, {self.title} has {self.blocks}; use in=, mid= and out="
            )

    @cached_property
    def block_names(self) -> Mapping[int, str]:
        """Of each block, as block weights count them: IN00, M00, OUT11."""
        counted: Counter[str] = Counter()
        names: dict[int, str] = {}
        thirds = {layer.block: layer.third for layer in self.layers if layer.block is not None and layer.third is not None}
        for block, third in sorted(thirds.items()):
            names[block] = f"{'M' if third == 'mid' else third.upper()}{counted[third]:02}"
            counted[third] += 1
        return names

    @cached_property
    def components(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(layer.target.component for layer in self.layers))

    def named(self, words: Iterable[str]) -> tuple[str, ...]:
        """The components that are meant, each once: by name, `te` for every text encoder, `te1` and `te2` for one. Raises SettingsError
        for one that the base does not have, with the nearest names."""
        texts = [name for name in self.components if is_text_encoder(name)]
        short = {TEXT_ENCODERS: texts} | {f"{TEXT_ENCODERS}{number}": [name] for number, name in enumerate(texts, 1)}
        meant = tuple(dict.fromkeys(name for word in words for name in short.get(word, [word])))
        if unknown := [name for name in meant if name not in self.components]:
            known = (*self.components, *short) if texts else self.components
            hint = suggestion(unknown[0], known) or f"; it has {', '.join(known)}"
            raise SettingsError(f"components: {self.title} has no {' or '.join(unknown)}{hint}")
        return meant
