"""What turns one checkpoint into another, as a network: of every module the difference of its weights, factored.

One module is looked at after another, so that memory holds the result and a few copies of the largest layer, never a model.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from loraloom.adapters import Adapter, Full, Norm
from loraloom.basefile import BaseFile
from loraloom.bases import Layer, Target
from loraloom.combine.change import Module
from loraloom.combine.combining import Combined, OnModule
from loraloom.combine.goal import Goal
from loraloom.combine.mixing import single
from loraloom.errors import BadTensor, BaseError, NothingApplied, SettingsError, WrongBase
from loraloom.lazy import torch
from loraloom.lorafile import LoraFile

if TYPE_CHECKING:
    from torch import Tensor


def difference(
    before: BaseFile,
    after: BaseFile,
    goal: Goal,
    *,
    components: Iterable[str] | None = None,
    check: Callable[[Module], object] | None = None,
    on_module: OnModule | None = None,
) -> Combined:
    """The network that makes `after` of `before`, as near as the goal says; modules that did not change are left out.

    Weights of two dtypes count as the same if one is the other, rounded. What differs and cannot be in a network is in the notes.
    Raises WrongBase for two families, SettingsError for a component that one of them does not have, NothingApplied if nothing
    changed, BadTensor for NaN. `check` sees every module of the result as soon as it is there; what it raises ends the work.
    """
    if before.base is not after.base:
        raise WrongBase(
            f"{before.name} is {before.base.title}, {after.name} is {after.base.title}: a LoRA lies between two checkpoints of one family"
        )
    wanted, notes = _components(before, after, components)
    layers = [layer for layer in before.base.layers if layer.target.component in wanted]
    found = []
    for number, layer in enumerate(layers, 1):
        if (adapter := changed(layer, before, after)) is not None:
            found.append(single(layer, adapter, goal))
            if check is not None:
                check(found[-1])
        if on_module is not None:
            on_module(number, len(layers))
    notes += (*_embeddings(found), *_others(before, after))
    if not found:
        told = "".join(f". {note}" for note in notes)
        raise NothingApplied(f"{after.name} and {before.name} have the same weights in {', '.join(wanted)}; nothing is written{told}")
    adapters = {module.target: module.adapter for module in found}
    return Combined(LoraFile(adapters, _metadata(before, after, goal.words), before.base.family), tuple(found), goal.words, notes=notes)


def _components(before: BaseFile, after: BaseFile, asked: Iterable[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those to compare, and a note for each that only one of the two has."""
    alone = [
        (name, held, other)
        for held, other in ((before, after), (after, before))
        for name in held.components
        if name not in other.components
    ]
    if asked is None:
        both = tuple(name for name in before.components if name in after.components)
        return both, tuple(f"{name}: only {held.name} has it, so it was not compared" for name, held, _ in alone)
    asked = tuple(asked)
    for name in asked:
        lacking = next((file for file in (before, after) if name not in file.components), None)
        if lacking is not None:
            raise SettingsError(f"{lacking.name} has no {name} to compare; it has {', '.join(lacking.components)}")
    return asked, ()


def changed(layer: Layer, before: BaseFile, after: BaseFile) -> Adapter | None:
    """The whole change of a module's weight and bias, float32; None if there is none."""
    weight = _less(after.weight(layer.target), before.weight(layer.target))
    ours, theirs = before.parameter(layer.target, "bias"), after.parameter(layer.target, "bias")
    if (ours is None) != (theirs is None):
        has, has_not = (before, after) if theirs is None else (after, before)
        raise BaseError(f"{has.name} has a bias of {layer.target}, {has_not.name} has none: these are not two versions of one model")
    bias = None if ours is None or theirs is None else _less(theirs, ours)
    if weight is None and bias is None:
        return None
    for change, parameter in ((weight, "weight"), (bias, "bias")):
        if change is not None and not bool(torch.isfinite(change).all()):
            raise BadTensor(_unfit(before, after, layer.target, parameter))
    return Norm(weight=weight, shift=bias) if layer.kind == "norm" else Full(diff=weight, bias=bias)


def _less(after: "Tensor", before: "Tensor") -> "Tensor | None":
    """after − before, float32; None if nothing changed."""
    return None if _unchanged(after, before) else after.float() - before.float()


def _unchanged(after: "Tensor", before: "Tensor") -> bool:
    """Whether they are the same, or would be in the dtype of one of them."""
    if after.dtype == before.dtype or after.shape != before.shape:
        return after.shape == before.shape and _equal(after, before)
    return _equal(after.to(before.dtype), before) or _equal(after, before.to(after.dtype))


def _equal(one: "Tensor", other: "Tensor") -> bool:
    if one.dtype.itemsize == 1:  # torch does not compare float8
        one, other = one.float(), other.float()
    return bool(torch.equal(one, other))


def _unfit(before: BaseFile, after: BaseFile, target: Target, parameter: str) -> str:
    """Whose values are at fault."""
    for file in (before, after):
        values = file.parameter(target, parameter)
        if values is not None and not bool(torch.isfinite(values.float()).all()):
            return f"{file.name}: the {parameter} of {target} holds NaN or infinite values; the training that made it went wrong"
    return f"{target}: the {parameter} of {before.name} and of {after.name} are too far apart for float32"


def _embeddings(found: Iterable[Module]) -> Iterator[str]:
    """Tables of words and positions take LoRAs here, and hardly anywhere else."""
    names = [str(module.target) for module in found if module.target.module.endswith(("token_embedding", "position_embedding"))]
    if names:
        yield f"{' and '.join(names)} changed too: the file has it, but many other tools have no place for a LoRA of an embedding"


def _others(before: BaseFile, after: BaseFile) -> Iterator[str]:
    """Tensors that belong to no layer of the family, by the beginning of their names: those that differ, and those that one of the
    two lacks under this name."""
    changed = Counter(
        _group(key) for key in after.others if key in before.tensors and not _unchanged(after.tensors[key], before.tensors[key])
    )
    for group, count in changed.items():
        yield f"{group}: {count} {'tensor differs' if count == 1 else 'tensors differ'}, and a LoRA has no place for them"
    for file, other in ((before, after), (after, before)):
        alone = Counter(_group(key) for key in file.others if key not in other.tensors)
        if alone:
            listed = ", ".join(f"{group} ({count})" for group, count in alone.most_common(4))
            more = f" and {len(alone) - 4} more" if len(alone) > 4 else ""
            yield f"not compared, because only {file.name} has them under these names: {listed}{more}"


def _group(key: str) -> str:
    return key.partition("/")[0] if "/" in key else key.partition(".")[0]


def _metadata(before: BaseFile, after: BaseFile, words: str) -> dict[str, str]:
    """What it is made of; `sampled_sha256` is `Header.sampled_hash`."""
    sources = {role: {"name": file.name, "sampled_sha256": file.digest} for role, file in (("base", before), ("tuned", after))}
    return {
        "ss_sd_model_name": before.name,
        "modelspec.merged_from": f"{after.name}, {before.name}",
        "loraloom.difference_of": json.dumps({**sources, "method": words}, ensure_ascii=False),
    }
