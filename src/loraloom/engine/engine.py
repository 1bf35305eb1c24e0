"""The engine: networks on a live pipeline for the time of a `with`, and nothing left behind."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from loraloom.bases import Base, Target
from loraloom.engine.branch import Branches, Weighted
from loraloom.engine.keep import Checkpoints
from loraloom.engine.live import (
    called,
    cast_inside,
    claim,
    components,
    live_modules,
    misfit,
    recognise,
    refuse_foreign_layers,
    walked,
    weight_of,
)
from loraloom.engine.merge import Merged
from loraloom.engine.mixture import Mixture, Slots
from loraloom.engine.plan import Entry, Plan, Wish, plan
from loraloom.engine.prepared import Filled, Prepared
from loraloom.engine.reach import uncut, unreached
from loraloom.engine.report import NetworkReport, Report, count_blocks, count_components, scales
from loraloom.engine.run import Run
from loraloom.engine.surroundings import set_aside
from loraloom.engine.tokens import Tokens
from loraloom.errors import EngineError, NothingApplied, WrongBase
from loraloom.lorafile import Mix
from loraloom.undo import Undo, changing, completed

if TYPE_CHECKING:
    import torch
    from torch.nn import Module


class Engine:
    """Runs mixes on one pipeline. `base` is recognised from the pipeline's modules unless given.

    Raises NotSupported for a pipeline whose modules it does not know or that carries PEFT layers.
    """

    def __init__(self, pipeline: Any, base: Base | None = None) -> None:
        refuse_foreign_layers(pipeline)
        self.pipeline = pipeline
        self.base = base or recognise(pipeline)
        self._run: Run | None = None
        self._prepared: Prepared | None = None
        self._checkpoints = Checkpoints()

    def attached(self, mixes: Mix | Sequence[Mix], *, steps: int = 1, mode: Wish = "auto") -> AbstractContextManager[Report]:
        """The mixes are live inside; afterwards every parameter and buffer has the bits that it had before, errors and interrupts included.

        One mix is for every picture; several are one for each picture of a batch, in order. `steps` is the number of sampler
        steps of the run, `mode` how adapters run. The sampler's steps are followed by themselves. Raises NothingApplied if a
        network fits nothing, NotSupported for what this engine does not run, EngineError if the pipeline is in use already.
        """

        def attach(undo: Undo) -> Report:
            with set_aside():
                return self._attach(undo, mixes, steps, mode)

        return changing(attach)

    def _attach(self, undo: Undo, mixes: Mix | Sequence[Mix], steps: int, mode: Wish) -> Report:
        started = time.perf_counter()
        mixture = Mixture(mixes, self.base)
        named = walked(self.pipeline)
        modules = live_modules(self.pipeline, self.base, named)
        entries, networks = self._resolve(mixture, modules)
        words = Tokens(self.pipeline, (network.file for network in mixture.networks))
        chosen = plan(mode, entries, mixture, modules, self.pipeline, named, steps, prepared=self._prepared is not None)
        claim(components(self.pipeline).values(), undo)
        words.teach(undo)
        before = {entry.target: weight_of(modules[entry.target]).dtype for entry in entries}
        undo.afterwards(partial(_refuse_cast, modules, before))
        nbytes = self._add(chosen, mixture, modules, steps, undo)
        return Report(tuple(networks), chosen.mode, chosen.reason, len(before), nbytes, time.perf_counter() - started)

    def step(self, n: int) -> None:
        """Strengths of step `n` (from 1) from now on: for sampling loops of your own, which no scheduler of the pipeline counts."""
        if self._run is None:
            raise EngineError("nothing is attached; call step inside `with engine.attached(...)`")
        self._run.step(n)

    def prepare(self, *, rank: int) -> None:
        """Room for `rank` ranks beside every layer, all networks of a mix together; call it before `torch.compile`.

        From then on networks are attached, swapped and changed in strength without compiling anew, by writing into this room. It
        stays until `release`, costs two thin products a layer, and adds zeros while nothing is attached. Raises EngineError while
        networks are attached.
        """
        self.release()
        modules = live_modules(self.pipeline, self.base)
        with set_aside():
            self._prepared = completed(lambda undo: Prepared(modules, rank, undo), Undo())

    def release(self) -> None:
        """Take prepared room away; what was compiled with it has to be compiled anew. Raises EngineError while networks are attached."""
        if self._run is not None:
            raise EngineError("networks are attached; leave that `attached` first")
        if self._prepared is not None:
            self._prepared.release()
            self._prepared = None

    def _add(self, chosen: Plan, mixture: Mixture, modules: "Mapping[Target, Module]", steps: int, undo: Undo) -> int:
        """Everything of the plan on the live modules; the bytes that it holds. `undo` takes it off again."""
        parts, columns = components(self.pipeline), len(mixture.columns)
        merged, slots = Merged(parts, self._checkpoints, undo), Slots(mixture)
        branches = Branches(columns, undo) if self._prepared is None else Filled(self._prepared, columns, undo)
        for target, entries in chosen.merged.items():
            merged.add(
                target, modules[target], [(entry.adapter, mixture.steady_at(entry.network, entry.place) or 0.0) for entry in entries]
            )
        for target, entries in chosen.beside.items():
            branches.add(target, modules[target], [_weighted(entry, mixture, slots) for entry in entries])
        branches.build()
        undo.keep(self, "_run")
        self._run = Run(self.pipeline, mixture, slots, branches.strengths, steps)
        self._run.follow(called(self.pipeline), undo)
        return merged.nbytes + branches.nbytes

    def _resolve(self, mixture: Mixture, modules: "Mapping[Target, Module]") -> tuple[list[Entry], list[NetworkReport]]:
        """What each touched module gets, and a report for each network."""
        entries: list[Entry] = []
        networks = []
        parts = components(self.pipeline)
        for network in mixture.networks:
            file = network.file
            if file.base != self.base.family:
                raise WrongBase(f"{file.name} was read for {file.base!r}; the base is {self.base.title}. Read it with base=engine.base")
            reasons = {target: misfit(self.base, target, adapter, modules.get(target)) for target, adapter in file.adapters.items()}
            fitting = {target: adapter for target, adapter in file.adapters.items() if reasons[target] is None}
            unused = [f"{target}: {reason}" for target, reason in reasons.items() if reason is not None]
            if not fitting and not file.embeddings:
                raise NothingApplied(f"{file.name}: none of its {len(file.adapters)} modules is in this pipeline: {'; '.join(unused[:2])}")
            held = frozenset(self.base.by_target[target].place for target in fitting)
            live, silent = [], []
            for target, adapter in fitting.items():
                place = self.base.by_target[target].place
                if mixture.off_at(network, place):
                    silent.append(target)
                    continue
                live.append(target)
                entries.append(Entry(network, target, place, adapter if network.dyn is None else adapter.cut(network.dyn) or adapter))
            networks.append(
                NetworkReport(
                    name=file.name,
                    applied=count_components(live),
                    silent=count_components(silent),
                    present=count_components(file.adapters),
                    unused=(*file.unknown, *unused),
                    warnings=(*file.warnings, *uncut(network.dyn, fitting.values()), *unreached(mixture.strengths(network), held, parts)),
                    made_for=file.made_for or self.base.title,
                    scales=scales(file.adapters.values(), file.alpha_from),
                    blocks=count_blocks(self.base, live, file.adapters),
                )
            )
        return entries, networks


def _refuse_cast(modules: "Mapping[Target, Module]", before: "Mapping[Target, torch.dtype]") -> None:
    for target, dtype in before.items():
        if weight_of(modules[target]).dtype != dtype:
            raise cast_inside(dtype, weight_of(modules[target]).dtype)


def _weighted(entry: Entry, mixture: Mixture, slots: Slots) -> Weighted:
    return Weighted(entry.adapter, slots.slot(entry.network, entry.place), mixture.steady_at(entry.network, entry.place))
