"""A mix as one network, with a report of how far it is from the mix."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loraloom.bases import Base
from loraloom.combine.change import Module, Weights
from loraloom.combine.flatten import Flattened, flatten
from loraloom.combine.goal import Goal
from loraloom.combine.mixing import modules
from loraloom.errors import EngineError, NothingApplied, WrongBase
from loraloom.lorafile import Embeddings, LoraFile, Stack

if TYPE_CHECKING:
    from torch import Tensor

OnModule = Callable[[int, int], None]  # modules that are done, of how many; what it raises ends the work


@dataclass(frozen=True)
class Combined:
    """The network, and of each module its rank and error before anything is rounded to a dtype."""

    file: LoraFile
    modules: tuple[Module, ...] = field(repr=False)
    method: str  # in words
    flattened: Flattened | None = None
    notes: tuple[str, ...] = ()  # what is not in it, in sentences

    @property
    def error(self) -> float:
        """Of all modules together, relative (Frobenius)."""
        whole = sum(module.norm**2 for module in self.modules)
        return math.sqrt(sum((module.error * module.norm) ** 2 for module in self.modules) / whole) if whole else 0.0

    @property
    def worst(self) -> Module:
        return max(self.modules, key=lambda module: module.error)

    @property
    def ranks(self) -> tuple[int, int]:
        """The smallest and the largest rank of its LoRAs; 0 where there are none."""
        found = [module.rank for module in self.modules if module.rank]
        return (min(found), max(found)) if found else (0, 0)


def combine(
    stack: Stack,
    base: Base,
    goal: Goal,
    *,
    weights: Weights | None = None,
    components: Iterable[str] | None = None,
    mix: str = "",
    steps: int | None = None,
    on_module: OnModule | None = None,
) -> Combined:
    """The stack as one network for `base`. `weights` gives the base's own weights, which some types need; `mix` is how the stack was
    written, for the metadata. With `steps` each strength counts with its mean over a run of so many.

    Raises WrongBase for a network of another family, NotSupported for strengths that change by step where there are no `steps`
    and for a type that needs weights where there are none, NothingApplied if nothing of it is left.
    """
    flat = flatten(stack, steps) if steps else None
    stack = flat.stack if flat else stack
    found = tuple(summed(stack, base, goal, weights, components, on_module))
    words = _words(stack)
    if not found and not words:
        names = ", ".join(file.name for file, _ in stack) or "nothing"
        raise NothingApplied(f"{names}: every module of this mix is at strength 0 or left out; nothing is written")
    method = goal.words
    adapters = {module.target: module.adapter for module in found}
    return Combined(LoraFile(adapters, _metadata(stack, method, mix, flat), base.family, embeddings=words), found, method, flat)


def summed(
    stack: Stack, base: Base, goal: Goal, weights: Weights | None, components: Iterable[str] | None, on_module: OnModule | None
) -> Iterator[Module]:
    """The modules of the sum, each told as soon as it is there; those that come to nothing are counted with the last. Raises as
    `combine` does."""
    for file, strength in stack:
        if file.base != base.family:
            raise WrongBase(f"{file.name} was read for {file.base!r}; the mix is for {base.title}")
        base.require_blocks(file.name, strength)
    wanted = frozenset(base.components if components is None else components)
    whole = len({target for file, _ in stack for target in file.adapters if target.component in wanted})
    done = 0
    for done, module in enumerate(modules(stack, base, goal, weights, wanted), 1):
        if on_module and done < whole:
            on_module(done, whole)
        yield module
    if on_module and done:
        on_module(whole, whole)


def _metadata(stack: Stack, method: str, mix: str, flat: Flattened | None) -> dict[str, str]:
    """What it is made of. Trigger words are those of all networks, in order."""
    triggers = dict.fromkeys(
        word for file, _ in stack for part in file.metadata.get("modelspec.trigger_phrase", "").split(",") if (word := part.strip())
    )
    sources = [_source(file) for file, _ in stack]
    means = {"flattened": {"steps": flat.steps, "mix": flat.mix}} if flat else {}
    told = {
        "modelspec.merged_from": ", ".join(file.name for file, _ in stack),
        "loraloom.combined_from": json.dumps({"mix": mix, "method": method, **means, "networks": sources}, ensure_ascii=False),
    }
    if triggers:
        told["modelspec.trigger_phrase"] = ", ".join(triggers)
    licences = dict.fromkeys(file.metadata["modelspec.license"] for file, _ in stack if file.metadata.get("modelspec.license"))
    if licences:
        told["modelspec.license"] = "; ".join(licences)
    return told


def _source(file: LoraFile) -> Mapping[str, object]:
    types = Counter(adapter.name for adapter in file.adapters.values())
    return {"name": file.name, "sshs_model_hash": file.metadata.get("sshs_model_hash", ""), "types": dict(types)}


def _words(stack: Stack) -> Embeddings:
    """The embeddings of all networks; raises EngineError for one word with two meanings."""
    found: dict[str, Mapping[str, Tensor]] = {}
    owners: dict[str, LoraFile] = {}
    for file, _ in stack:
        for word, vectors in file.embeddings.items():
            if owners.setdefault(word, file) is not file:
                raise EngineError(f"{owners[word].name} and {file.name} both bring the word {word!r}; combine one of them")
            found[word] = vectors
    return found
