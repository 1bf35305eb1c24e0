"""The engine: networks on a live pipeline for the time of a `with`, and nothing left behind."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.engine.branch import Branches
from loraloom.engine.live import components, live_modules, recognise, refuse_foreign_layers
from loraloom.engine.merge import Merged
from loraloom.engine.report import Mode, NetworkReport, Report, count_components
from loraloom.errors import EngineError, NothingApplied, NotSupported, WrongBase
from loraloom.lorafile import LoraFile, Mix, Stack
from loraloom.strength import Strength

if TYPE_CHECKING:
    from torch.nn import Module

_MARK = "_loraloom_attached"


class Engine:
    """Runs mixes on one pipeline. `base` is recognised from the pipeline's modules unless given.

    Raises NotSupported for a pipeline whose modules it does not know or that carries PEFT layers.
    """

    def __init__(self, pipeline: Any, base: Base | None = None) -> None:
        refuse_foreign_layers(pipeline)
        self.pipeline = pipeline
        self.base = base or recognise(pipeline)
        self._modules = live_modules(pipeline, self.base)

    @contextmanager
    def attached(
        self, mixes: Mix | Sequence[Mix], *, steps: int = 1, mode: Literal["auto", "merge", "branch"] = "auto"
    ) -> Iterator[Report]:
        """The mix is live inside; afterwards every parameter and buffer has the bits that it had before, errors included.

        `steps` is the number of sampler steps of the run, `mode` how adapters run. Raises NothingApplied if a network
        fits nothing, NotSupported for what this engine does not run, EngineError if the pipeline is in use already.
        """
        started = time.perf_counter()
        stack = _one_stack(mixes)
        chosen, reason = _plan(mode)
        parts = list(components(self.pipeline).values())
        if any(hasattr(part, _MARK) for part in parts):
            raise EngineError("networks are attached to this pipeline, or to one that shares its modules; leave that `attached` first")
        refuse_foreign_layers(self.pipeline)
        touched, networks = self._resolve(stack)
        live = Merged() if chosen == "merge" else Branches()
        try:
            for part in parts:
                setattr(part, _MARK, True)
            for target, adapters in touched.items():
                live.add(self._modules[target], adapters)
            yield Report(tuple(networks), chosen, reason, len(touched), live.nbytes, time.perf_counter() - started)
        finally:
            for part in parts:
                if hasattr(part, _MARK):
                    delattr(part, _MARK)
            live.restore()

    def _resolve(self, stack: Stack) -> tuple[Mapping[Target, list[tuple[Adapter, float]]], list[NetworkReport]]:
        """What each touched module gets, and a report for each network."""
        touched: dict[Target, list[tuple[Adapter, float]]] = {}
        networks = []
        for file, strength in stack:
            if file.base != self.base.family:
                raise WrongBase(f"{file.name} was read for {file.base!r}; the base is {self.base.title}. Read it with base=engine.base")
            fitting, unused = self._fitting(file)
            if not fitting:
                raise NothingApplied(f"{file.name}: none of its {len(file.adapters)} modules is in this pipeline: {'; '.join(unused[:2])}")
            applied = []
            for target, adapter in fitting.items():
                value = strength.at(self.base.by_target[target].place, 1, 1)
                if value != 0:
                    touched.setdefault(target, []).append((adapter, value))
                    applied.append(target.component)
            present = count_components([target.component for target in file.adapters])
            networks.append(NetworkReport(file.name, count_components(applied), present, (*file.unknown, *unused), off=not applied))
        return touched, networks

    def _fitting(self, file: LoraFile) -> tuple[Mapping[Target, Adapter], list[str]]:
        """The adapters whose module is here with the expected shape, and why the others are not used."""
        fitting, unused = {}, []
        for target, adapter in file.adapters.items():
            module: Module | None = self._modules.get(target)
            shape = tuple(module.weight.shape) if module is not None else None  # type: ignore[arg-type]
            shapes = {suffix: tuple(tensor.shape) for suffix, tensor in adapter.tensors().items()}
            if shape is None:
                unused.append(f"{target}: this pipeline has no such module")
            elif adapter.delta_shape(shapes, shape) != shape:
                unused.append(f"{target}: the adapter gives {list(adapter.delta_shape(shapes, shape))}, the module has {list(shape)}")
            else:
                fitting[target] = adapter
        return fitting, unused


def _plan(mode: Literal["auto", "merge", "branch"]) -> tuple[Mode, str]:
    """Constant strengths: merged once, a step costs what it costs without networks."""
    return ("merge", "strengths are constant") if mode == "auto" else (mode, "asked for")


def _one_stack(mixes: Mix | Sequence[Mix]) -> Stack:
    """The one stack of constant strengths that this engine runs; the rest is refused by name."""
    several = [mixes] if isinstance(mixes, Mix) else list(mixes)
    if len(several) > 1 and any(mix != several[0] for mix in several):
        raise NotSupported("pictures of one batch with different networks are not run yet; draw them one by one")
    if not several:
        return ()
    if several[0].negative:
        raise NotSupported("networks in the negative prompt are not run yet; move the tags to the prompt or leave them out")
    for file, strength in several[0].positive:
        _refuse(file, strength)
    return several[0].positive


def _refuse(file: LoraFile, strength: Strength) -> None:
    if not strength.is_constant:
        raise NotSupported(f"{file.name}: strengths that change by step are not run yet; give one number")
