"""What is known of a run before it begins: plain values that a page, a JSON text or a note can show."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loraloom.train.estimate import Memory
from loraloom.train.pictures import Shape


@dataclass(frozen=True)
class Prompt:
    """A caption as the run will see it."""

    picture: str
    text: str  # empty: left out by chance
    cut: int | None  # tokens that the text encoder does not read; None: nothing here can count them


@dataclass(frozen=True)
class Bucket:
    """Pictures that are trained at one shape."""

    shape: Shape  # width, height in pixels
    pictures: int
    places: int  # in an epoch, with repeats; regularisation pictures not counted


@dataclass(frozen=True)
class Trained:
    """The adapters."""

    type: str
    rank: int
    alpha: float
    components: tuple[str, ...]
    modules: int
    numbers: int  # in all their tensors


@dataclass(frozen=True)
class Written:
    """A file or folder that the run makes."""

    path: Path
    what: str
    there: bool  # already


@dataclass(frozen=True)
class Disk:
    """Bytes. What is needed is an estimate, sample pictures and logs not counted."""

    needed: int
    free: int
    cache: int  # of the needed ones: the folder of kept latents, when it is complete


@dataclass(frozen=True)
class Facts:
    """A run as it will be. `problems` would stop it; `notes` are what a person should know."""

    base: str
    pictures: int
    regularization: int
    masks: int
    folders: tuple[tuple[str, int, int], ...]  # name, pictures, how often each counts
    resolution: int
    buckets: tuple[Bucket, ...]
    steps: int
    per_step: int
    per_epoch: int
    prompts: tuple[Prompt, ...]
    trained: Trained
    memory: Memory | None  # None: the size of the base is not known before it is loaded
    free: int  # bytes of memory
    files: tuple[Written, ...]
    disk: Disk
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def epochs(self) -> float:
        return self.steps * self.per_step / self.per_epoch


def brief(facts: Facts) -> Iterator[str]:
    """What a run says of itself when it begins, in a line or two."""
    also = f" and {facts.regularization} for regularisation" if facts.regularization else ""
    shapes = f" in {len(facts.buckets)} shapes" if len(facts.buckets) > 1 else ""
    course = f"{facts.steps} steps of {facts.per_step} are {facts.epochs:.3g} epochs of {facts.per_epoch}"
    yield f"{facts.pictures} pictures{also}{shapes}; {course}"
    if facts.memory is not None:
        yield f"about {facts.memory.total / 1e9:.1f} GB of memory, by estimate"
    if texts := [prompt.text or "(no words)" for prompt in facts.prompts]:
        yield f"first prompts: {' | '.join(texts)}"
