"""The engine: networks on a live pipeline for the time of a `with`, and nothing left behind."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from loraloom.adapters import Adapter
from loraloom.bases import Base, Target
from loraloom.engine.branch import Branches
from loraloom.engine.live import cast_inside, claimed, components, live_modules, misfit, recognise, refuse_foreign_layers, weight_of
from loraloom.engine.merge import Merged
from loraloom.engine.plan import one_stack, plan, refuse_strength
from loraloom.engine.report import NetworkReport, Report, count_components
from loraloom.errors import NothingApplied, WrongBase
from loraloom.lorafile import Mix, Stack

if TYPE_CHECKING:
    from torch.nn import Module

Touched = Mapping[Target, list[tuple[Adapter, float]]]


class Engine:
    """Runs mixes on one pipeline. `base` is recognised from the pipeline's modules unless given.

    Raises NotSupported for a pipeline whose modules it does not know or that carries PEFT layers.
    """

    def __init__(self, pipeline: Any, base: Base | None = None) -> None:
        refuse_foreign_layers(pipeline)
        self.pipeline = pipeline
        self.base = base or recognise(pipeline)

    @contextmanager
    def attached(
        self, mixes: Mix | Sequence[Mix], *, steps: int = 1, mode: Literal["auto", "merge", "branch"] = "auto"
    ) -> Iterator[Report]:
        """The mix is live inside; afterwards every parameter and buffer has the bits that it had before, errors included.

        `steps` is the number of sampler steps of the run, `mode` how adapters run. Raises NothingApplied if a network
        fits nothing, NotSupported for what this engine does not run, EngineError if the pipeline is in use already.
        """
        started = time.perf_counter()
        stack = one_stack(mixes)
        refuse_foreign_layers(self.pipeline)
        chosen, reason = plan(mode, self.pipeline)
        modules = live_modules(self.pipeline, self.base)
        touched, networks = self._resolve(stack, modules)
        live = Merged() if chosen == "merge" else Branches()
        with ExitStack() as undo:
            undo.enter_context(claimed(components(self.pipeline).values()))
            before = {target: weight_of(modules[target]).dtype for target in touched}
            undo.callback(live.restore)
            for target, adapters in touched.items():
                live.add(modules[target], adapters)
            yield Report(tuple(networks), chosen, reason, len(touched), live.nbytes, time.perf_counter() - started)
        for target, dtype in before.items():  # not reached when the body raised: its own error is the one to see
            if weight_of(modules[target]).dtype != dtype:
                raise cast_inside(dtype, weight_of(modules[target]).dtype)

    def _resolve(self, stack: Stack, modules: "Mapping[Target, Module]") -> tuple[Touched, list[NetworkReport]]:
        """What each touched module gets, and a report for each network."""
        touched: dict[Target, list[tuple[Adapter, float]]] = {}
        networks = []
        for file, strength in stack:
            if file.base != self.base.family:
                raise WrongBase(f"{file.name} was read for {file.base!r}; the base is {self.base.title}. Read it with base=engine.base")
            refuse_strength(file, strength, self.base)
            reasons = {target: misfit(self.base, target, adapter, modules.get(target)) for target, adapter in file.adapters.items()}
            fitting = {target: adapter for target, adapter in file.adapters.items() if reasons[target] is None}
            unused = [f"{target}: {reason}" for target, reason in reasons.items() if reason is not None]
            if not fitting:
                raise NothingApplied(f"{file.name}: none of its {len(file.adapters)} modules is in this pipeline: {'; '.join(unused[:2])}")
            values = {target: strength.at(self.base.by_target[target].place, 1, 1) for target in fitting}
            for target, value in values.items():
                if value != 0:
                    touched.setdefault(target, []).append((fitting[target], value))
            networks.append(
                NetworkReport(
                    name=file.name,
                    applied=count_components(target for target, value in values.items() if value != 0),
                    silent=count_components(target for target, value in values.items() if value == 0),
                    present=count_components(file.adapters),
                    unused=(*file.unknown, *unused),
                    warnings=file.warnings,
                )
            )
        return touched, networks
