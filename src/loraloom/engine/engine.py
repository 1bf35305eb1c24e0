"""The engine: networks on a live pipeline for the time of a `with`, and nothing left behind."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from loraloom.bases import Base, Target
from loraloom.engine.branch import Branches, Weighted
from loraloom.engine.keep import Checkpoints
from loraloom.engine.live import (
    called,
    cast_inside,
    claimed,
    components,
    live_modules,
    misfit,
    recognise,
    refuse_foreign_layers,
    walked,
    weight_of,
)
from loraloom.engine.merge import Merged
from loraloom.engine.mixture import Mixture, Network, Slots
from loraloom.engine.plan import Entry, Plan, Wish, plan
from loraloom.engine.prepared import Filled, Prepared
from loraloom.engine.report import NetworkReport, Report, count_blocks, count_components, scales
from loraloom.engine.run import Run
from loraloom.engine.tokens import Tokens
from loraloom.errors import EngineError, NothingApplied, WrongBase
from loraloom.lorafile import Mix

if TYPE_CHECKING:
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

    @contextmanager
    def attached(self, mixes: Mix | Sequence[Mix], *, steps: int = 1, mode: Wish = "auto") -> Iterator[Report]:
        """The mixes are live inside; afterwards every parameter and buffer has the bits that it had before, errors included.

        One mix is for every picture; several are one for each picture of a batch, in order. `steps` is the number of sampler
        steps of the run, `mode` how adapters run. The sampler's steps are followed by themselves. Raises NothingApplied if a
        network fits nothing, NotSupported for what this engine does not run, EngineError if the pipeline is in use already.
        """
        started = time.perf_counter()
        mixture = Mixture(mixes, self.base)
        named = walked(self.pipeline)
        modules = live_modules(self.pipeline, self.base, named)
        entries, networks = self._resolve(mixture, modules)
        words = Tokens(self.pipeline, (network.file for network in mixture.networks))
        chosen = plan(mode, entries, mixture, modules, self.pipeline, named, steps, prepared=self._prepared is not None)
        with ExitStack() as undo:
            undo.enter_context(claimed(components(self.pipeline).values()))
            undo.enter_context(words.known())
            before = {entry.target: weight_of(modules[entry.target]).dtype for entry in entries}
            merged, branches = self._add(chosen, mixture, modules, steps, undo)
            nbytes = merged.nbytes + branches.nbytes
            yield Report(tuple(networks), chosen.mode, chosen.reason, len(before), nbytes, time.perf_counter() - started)
        for target, dtype in before.items():  # not reached when the body raised: its own error is the one to see
            if weight_of(modules[target]).dtype != dtype:
                raise cast_inside(dtype, weight_of(modules[target]).dtype)

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
        self._prepared = Prepared(live_modules(self.pipeline, self.base), rank)

    def release(self) -> None:
        """Take prepared room away; what was compiled with it has to be compiled anew. Raises EngineError while networks are attached."""
        if self._run is not None:
            raise EngineError("networks are attached; leave that `attached` first")
        if self._prepared is not None:
            self._prepared.release()
            self._prepared = None

    def _add(
        self, chosen: Plan, mixture: Mixture, modules: "Mapping[Target, Module]", steps: int, undo: ExitStack
    ) -> tuple[Merged, Branches | Filled]:
        """Everything of the plan on the live modules; `undo` takes it off again."""
        parts, columns = components(self.pipeline), len(mixture.columns)
        merged, slots = Merged(parts, self._checkpoints), Slots(mixture)
        branches = Branches(columns) if self._prepared is None else Filled(self._prepared, columns)
        undo.callback(merged.restore)
        for target, entries in chosen.merged.items():
            merged.add(
                target, modules[target], [(entry.adapter, mixture.steady_at(entry.network, entry.place) or 0.0) for entry in entries]
            )
        undo.callback(branches.restore)
        for target, entries in chosen.beside.items():
            branches.add(target, modules[target], [_weighted(entry, mixture, slots) for entry in entries])
        branches.build()
        self._run = Run(self.pipeline, mixture, slots, branches.strengths, steps)
        undo.callback(self._detach)
        undo.enter_context(self._run.following(called(self.pipeline)))
        return merged, branches

    def _detach(self) -> None:
        self._run = None

    def _resolve(self, mixture: Mixture, modules: "Mapping[Target, Module]") -> tuple[list[Entry], list[NetworkReport]]:
        """What each touched module gets, and a report for each network."""
        entries: list[Entry] = []
        networks = []
        for network in mixture.networks:
            file = network.file
            if file.base != self.base.family:
                raise WrongBase(f"{file.name} was read for {file.base!r}; the base is {self.base.title}. Read it with base=engine.base")
            reasons = {target: misfit(self.base, target, adapter, modules.get(target)) for target, adapter in file.adapters.items()}
            fitting = {target: adapter for target, adapter in file.adapters.items() if reasons[target] is None}
            unused = [f"{target}: {reason}" for target, reason in reasons.items() if reason is not None]
            if not fitting and not file.embeddings:
                raise NothingApplied(f"{file.name}: none of its {len(file.adapters)} modules is in this pipeline: {'; '.join(unused[:2])}")
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
                    warnings=(*file.warnings, *_uncut(network)),
                    made_for=file.made_for or self.base.title,
                    scales=scales(file.adapters.values(), file.alpha_from),
                    blocks=count_blocks(self.base, live, file.adapters),
                )
            )
        return entries, networks


def _weighted(entry: Entry, mixture: Mixture, slots: Slots) -> Weighted:
    return Weighted(entry.adapter, slots.slot(entry.network, entry.place), mixture.steady_at(entry.network, entry.place))


def _uncut(network: Network) -> list[str]:
    """dyn where a type has no ranks to cut."""
    if network.dyn is None:
        return []
    kinds = sorted({adapter.name for adapter in network.file.adapters.values() if adapter.cut(network.dyn) is None})
    return [f"dyn={network.dyn} is ignored by {', '.join(kinds)}, which have no ranks to cut"] if kinds else []
