"""What can be known about a file from its header, in frozen nouns. Every text in them is a stranger's: show it as text."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from loraloom.bases.detect import Confidence


class Spread(NamedTuple):
    """Of numbers that vary over the modules of a file."""

    least: float
    most: float
    commonest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        counted = Counter(values)
        return cls(min(counted), max(counted), counted.most_common(1)[0][0]) if counted else None


class Key(NamedTuple):
    """One tensor: what it belongs to, or why it belongs to nothing."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    target: str  # "unet.down_blocks.0..."; empty if nothing is changed by it
    type: str  # of the adapter that it is part of
    reason: str  # why it is not used


class Unused(NamedTuple):
    key: str
    reason: str


class Share(NamedTuple):
    """How many modules of a kind have an adapter, of how many there are."""

    modules: int
    of: int


@dataclass(frozen=True)
class Component:
    """`attention` are the layers that LoRA trains by default, `rest` all others that can take an adapter; both are None for a
    family that has no table here."""

    name: str
    modules: int
    attention: Share | None = None
    rest: Share | None = None


@dataclass(frozen=True)
class Training:
    """What the metadata says of how the file was made, in its own words; empty: it does not say."""

    trainer: str = ""
    base_model: str = ""
    title: str = ""
    author: str = ""
    license: str = ""
    description: str = ""
    merged_from: str = ""
    rank: str = ""
    alpha: str = ""
    steps: str = ""
    epochs: str = ""
    pictures: str = ""
    resolution: str = ""
    batch: str = ""
    learning_rate: str = ""
    unet_lr: str = ""
    text_encoder_lr: str = ""
    optimizer: str = ""
    scheduler: str = ""
    finished: str = ""  # ISO 8601, UTC


@dataclass(frozen=True)
class Hashes:
    """`model` is `sshs_model_hash`: of the tensors alone. `agrees` is None where the metadata has none, or LyCORIS' own."""

    sha256: str
    model: str
    autov3: str  # Civitai's: the first 12 digits of `model`
    legacy: str  # the WebUI's first: 8 digits of the bytes from 1 to 1.06 MB
    told: str  # what the metadata says
    agrees: bool | None


@dataclass(frozen=True)
class Inspection:
    """Everything that is known without reading the tensors. `problem` is why the file cannot be used on its own family's base."""

    name: str
    size: int  # bytes
    tensors: int
    dtypes: Mapping[str, int]  # bytes by dtype, most first
    family: str | None  # "sd1"; None: none that has a table here
    base: str  # "SD 1.x", in words
    confidence: Confidence
    evidence: tuple[str, ...]
    contradictions: tuple[str, ...]
    dialect: str  # "kohya"; empty: not known
    types: Mapping[str, int]  # modules by type, most first
    modules: int
    ranks: Spread | None
    alphas: Spread | None
    alpha_from: str
    rslora: bool
    dora: Mapping[str, int]  # modules by axis: "output", "input"
    components: tuple[Component, ...]
    words: tuple[str, ...]  # embeddings that come with the file
    unused: tuple[Unused, ...]
    triggers: tuple[str, ...]
    training: Training
    warnings: tuple[str, ...] = ()
    problem: str = ""
    hashes: Hashes | None = None
    keys: tuple[Key, ...] = field(default=(), repr=False)
