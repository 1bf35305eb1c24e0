"""How each adapter will run: added into the weight, or computed beside the layer; and what cannot run, refused by name."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from loraloom.adapters import Adapter
from loraloom.bases import Target
from loraloom.engine.live import called, weight_of
from loraloom.engine.mergeable import unmergeable
from loraloom.engine.mixture import Mixture, Network
from loraloom.engine.report import Mode
from loraloom.errors import NotSupported
from loraloom.lazy import torch
from loraloom.strength import Place, is_text_encoder

if TYPE_CHECKING:
    from torch.nn import Module

Wish = Literal["auto", "merge", "branch"]


@dataclass(frozen=True)
class Entry:
    """One adapter of one network, where it will run."""

    network: Network
    target: Target
    place: Place
    adapter: Adapter


@dataclass(frozen=True)
class Plan:
    merged: Mapping[Target, Sequence[Entry]]
    beside: Mapping[Target, Sequence[Entry]]
    reason: str

    @property
    def mode(self) -> Mode:
        if self.merged and self.beside:
            return "mixed"
        return "branch" if self.beside else "merge"


@dataclass(frozen=True)
class _Rates:
    """What the two ways cost on a kind of device. `python -m benchmarks.rates`, rounded: on one core with AVX2, and on an H200."""

    products: float  # floating-point operations a second, all cores
    copies: float  # bytes of a weight that one pass reads and writes in a second
    call: float  # seconds of one hooked call, its arithmetic aside

    @classmethod
    def of(cls, device: str) -> "_Rates":
        if device == "cpu":
            return cls(7e10 * torch.get_num_threads(), 7.5e9, 60e-6)
        return cls(9e12, 2e12, 60e-6)


def plan(
    wish: Wish,
    entries: Sequence[Entry],
    mixture: Mixture,
    modules: "Mapping[Target, Module]",
    pipeline: Any,
    named: "Mapping[str, Mapping[str, Module]]",
    steps: int,
    *,
    prepared: bool = False,
) -> Plan:
    """What changes by step or picture runs beside its layer; what is steady runs where it costs less over the whole run.

    `named` has all modules of the pipeline (`live.walked`). `prepared`: there is room beside every layer, and whether it is compiled
    does not matter.
    """
    if wish not in ("auto", "merge", "branch"):
        raise NotSupported(f'no mode {wish!r}; there are "auto", "merge" and "branch"')
    by_target: dict[Target, list[Entry]] = {}
    for entry in entries:
        by_target.setdefault(entry.target, []).append(entry)
    moving = [entry for entry in entries if mixture.steady_at(entry.network, entry.place) is None]
    fixed = {} if wish == "branch" else unmergeable(by_target, modules, named)
    if wish == "merge":
        if moving:
            what = "change by step" if mixture.one else "differ between pictures or halves of guidance"
            raise NotSupported(f'{moving[0].network.file.name}: strengths that {what} cannot be merged; use mode="auto" or mode="branch"')
        _refuse(fixed)
        return Plan(by_target, {}, "asked for")
    if prepared:
        return Plan({}, by_target, "there is prepared room beside every layer")
    compiled = _compiled(pipeline, named)
    if wish == "branch":
        _refuse_compiled(compiled, 'use mode="merge"')
        return Plan({}, by_target, "asked for")
    if compiled:
        if moving:
            _refuse_compiled(compiled, f"strengths of {moving[0].network.file.name} change, which only branches can do")
        _refuse(fixed)
        return Plan(by_target, {}, f"{compiled[0]} is compiled")
    return _cheapest(by_target, moving, fixed, modules, pipeline, steps, mixture)


def _refuse(fixed: Mapping[Target, str]) -> None:
    if fixed:
        raise NotSupported(next(iter(fixed.values())))


def _cheapest(
    by_target: Mapping[Target, Sequence[Entry]],
    moving: Iterable[Entry],
    fixed: Collection[Target],
    modules: "Mapping[Target, Module]",
    pipeline: Any,
    steps: int,
    mixture: Mixture,
) -> Plan:
    changing = {id(entry) for entry in moving}
    merged: dict[Target, Sequence[Entry]] = {}
    beside: dict[Target, Sequence[Entry]] = {}
    for target, entries in by_target.items():
        steady = [entry for entry in entries if id(entry) not in changing]
        rest = [entry for entry in entries if id(entry) in changing]
        # A type that reads the base's weight or output must find it untouched, so nothing else may be merged under it.
        whole = any(entry.adapter.reads_weight for entry in entries)
        evaluations = 2 if is_text_encoder(target.component) else steps
        if (
            steady
            and target not in fixed
            and not (whole and rest)
            and _merge_pays(steady, modules[target], evaluations, _tokens(pipeline, target), mixture.pictures)
        ):
            merged[target] = steady
        else:
            rest = list(entries)
        if rest:
            beside[target] = rest
    reasons = []
    if changing:
        reasons.append("strengths change by step" if mixture.one else "strengths differ between pictures or halves of guidance")
    if len(changing) < sum(map(len, by_target.values())):
        reasons.append(f"for {steps} steps the cheaper way of each module")
    return Plan(merged, beside, "; ".join(reasons) or "nothing to run")


def _merge_pays(entries: Sequence[Entry], layer: "Module", evaluations: int, tokens: int, pictures: int) -> bool:
    """Merging costs a product and three passes over the weight (compared, added to, brought back), once; a branch costs a thin
    product for every token, every time."""
    weight = weight_of(layer)
    rates = _Rates.of(weight.device.type)
    out, inputs = len(weight), weight[0].numel()
    rank = sum(_rank(entry.adapter) for entry in entries)
    once = 2 * rank * out * inputs / rates.products + 3 * weight.nbytes / rates.copies
    rows = 2 * pictures
    each = rates.call + 2 * rank * (out + inputs) * tokens * rows / rates.products
    return once < evaluations * each


def _rank(adapter: Adapter) -> int:
    """16 for types without a rank."""
    scaling = adapter.scaling()
    return 16 if scaling is None else scaling[0]


def _tokens(pipeline: Any, target: Target) -> int:
    """Positions of one picture at this module: 77 in text encoders, a quarter of the latents in the denoiser, between its levels."""
    if is_text_encoder(target.component):
        return 77
    side = getattr(getattr(getattr(pipeline, target.component, None), "config", None), "sample_size", None)
    return max(1, side * side // 4) if isinstance(side, int) else 1024


def _compiled(pipeline: Any, named: "Mapping[str, Mapping[str, Module]]") -> list[str]:
    """Components of which a part is compiled; `named` has their modules."""

    def is_compiled(name: str, component: "Module") -> bool:
        return hasattr(component, "_orig_mod") or any(module._compiled_call_impl is not None for module in named[name].values())

    return [name for name, component in called(pipeline).items() if is_compiled(name, component)]


def _refuse_compiled(compiled: Sequence[str], advice: str) -> None:
    if compiled:
        # Dynamo does not see hooks that are added after compiling: the network would be left out in silence.
        raise NotSupported(
            f"{compiled[0]} is compiled, and a branch beside it would not run; {advice}, or call engine.prepare(rank=...) before compiling"
        )
