"""A run that begins with a network instead of nothing: its adapters, with the types, ranks and scales that the file has."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loraloom import dialects
from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.errors import SettingsError
from loraloom.home import expanded
from loraloom.lorafile import LoraFile
from loraloom.train.config import ResolvedConfig, TrainConfig
from loraloom.train.config.adapters import WHICH_ADAPTERS
from loraloom.train.targets import Planned

if TYPE_CHECKING:
    from loraloom.train.run import Note

_SHOWN = 3


def begun(
    config: TrainConfig, job: ResolvedConfig, base: Base, planned: Sequence[Planned], new: Mapping[Target, Adapter], note: "Note"
) -> dict[Target, Adapter]:
    """The adapters that the run begins with. `new` are those of a job without a warm start, which stay where the file has none
    and the job asked for them.

    Raises what `opened` raises, and SettingsError, naming both values, where the file is not what was asked for or has more than is
    trained.
    """
    path, file = job.warm_start, opened(job, base)
    if path is None or file is None:
        return dict(new)
    for text in file.warnings:
        note(text)
    if file.unknown:
        note(f"{path.name}: {len(file.unknown)} tensors are not carried over, the first is {file.unknown[0]}")
    if file.embeddings:
        note(f"{path.name}: its embeddings ({', '.join(sorted(file.embeddings)[:_SHOWN])}) are not carried over")
    found = {target: adapter.by_alpha() for target, adapter in file.adapters.items()}
    if not config.model_fields_set & WHICH_ADAPTERS:
        return found
    if more := [str(target) for target in found if target not in new]:
        raise SettingsError(
            f"{path.name} has {len(more)} modules that this job does not train ({', '.join(more[:_SHOWN])}); name them with --target"
        )
    for item in planned:
        if item.layer.target in found:
            _compare(path.name, item.layer.target, found[item.layer.target], new[item.layer.target])
    return {**new, **found}


def opened(job: ResolvedConfig, base: Base) -> LoraFile | None:
    """The network of the warm start, which needs no model; None without one. Raises what `dialects.read` raises (WrongBase for another
    family), and SettingsError for components that are not trained."""
    if job.warm_start is None:
        return None
    file = dialects.read(expanded(job.warm_start), base)
    if others := sorted({target.component for target in file.adapters} - set(job.components)):
        told = f"{job.warm_start.name} has {' and '.join(others)} too, this job trains {', '.join(job.components)}"
        raise SettingsError(f"{told}: add --component")
    return file


def _compare(name: str, target: Target, has: Adapter, asked: Adapter) -> None:
    """Raises SettingsError where the two are of different types, shapes or scales."""
    if type(has) is not type(asked):
        raise SettingsError(f"{name} has {has.name} on {target}, this job asks for {asked.name}; {_ADVICE}")
    mine, wanted = ({field: list(tensor.shape) for field, tensor in each.trainable().items()} for each in (has, asked))
    scales = has.scaling(), asked.scaling()
    if scales[0] and scales[1] and scales[0][0] != scales[1][0]:
        raise SettingsError(f"{name} has rank {scales[0][0]} on {target}, this job asks for {scales[1][0]}; {_ADVICE}")
    if mine != wanted:
        raise SettingsError(f"{name} has {mine} on {target}, this job asks for {wanted}; {_ADVICE}")
    if scales[0] and scales[1] and abs(scales[0][1] - scales[1][1]) > 1e-6 * abs(scales[1][1]):
        raise SettingsError(f"{name} has alpha/rank {scales[0][1]:.6g} on {target}, this job asks for {scales[1][1]:.6g}; {_ADVICE}")


_ADVICE = "leave type, rank, alpha and targets out to go on with what the file has"
