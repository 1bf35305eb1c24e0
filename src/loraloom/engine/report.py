"""What the engine did with a mix: returned by `attached`, shown before the first step (`generate --explain`)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from loraloom.adapters import Adapter
from loraloom.bases import Base, Layer, Target

Mode = Literal["merge", "branch", "mixed", "diffusers"]


class Coverage(NamedTuple):
    """Of one part of the model, in modules."""

    applied: int
    present: int  # in the file

    def __str__(self) -> str:
        return f"{self.applied}/{self.present}"


@dataclass(frozen=True)
class NetworkReport:
    """One network of a mix. Modules are counted by component."""

    name: str
    applied: Mapping[str, int]  # live now
    silent: Mapping[str, int]  # fit, but their strength is 0
    present: Mapping[str, int]  # in the file
    unused: tuple[str, ...]  # "key or target: reason"
    warnings: tuple[str, ...] = ()
    made_for: str = ""  # the family that the file speaks for, and how that is known
    scales: tuple[str, ...] = ()  # rank, alpha and where alpha is from, for each combination in the file
    blocks: Mapping[str, Coverage] = field(default_factory=dict)  # by component and block: "unet in 4", in order of execution

    @property
    def off(self) -> bool:
        """Strength 0 everywhere: resolved and checked, not loaded."""
        return not self.applied

    @property
    def summary(self) -> str:
        """`unet 54/54, text_encoder 0/12 (strength 0)`, or `off`."""
        if self.off:
            return "off"
        silent = dict.fromkeys(self.silent, " (strength 0)")
        return ", ".join(f"{name} {self.applied.get(name, 0)}/{count}{silent.get(name, '')}" for name, count in self.present.items())


@dataclass(frozen=True)
class Report:
    """Coverage and cost of one attach."""

    networks: tuple[NetworkReport, ...]
    mode: Mode
    reason: str  # why this mode; of "diffusers", why the fallback
    modules: int  # of the base, touched by at least one network
    nbytes: int  # tensors held for the time of the attach
    seconds: float

    def __str__(self) -> str:
        return self._text(lambda _: [])

    @property
    def details(self) -> str:
        """All of it, for a person: what `str` says, and for each network its family, its scales and its coverage by block."""
        return self._text(lambda network: [f"made for {network.made_for}", *network.scales, *_by_component(network.blocks)])

    def _text(self, more: Callable[[NetworkReport], list[str]]) -> str:
        lines = [f"{self.mode} ({self.reason}): {self.modules} modules, {self.nbytes / 2**20:.1f} MiB, {self.seconds * 1000:.0f} ms"]
        for network in self.networks:
            lines.append(f"  {network.name}: {network.summary}")
            lines += [f"    {line}" for line in more(network)]
            lines += [f"    warning: {sentence}" for sentence in network.warnings]
            lines += [f"    unused {reason}" for reason in network.unused]
        return "\n".join(lines)


def scales(adapters: Iterable[Adapter], alpha_from: str) -> tuple[str, ...]:
    """`rank 8, ×0.5 (alpha from the file): 54 modules`, the most frequent first; types without a rank by their name."""
    found: Counter[str] = Counter()
    for adapter in adapters:
        scaling = adapter.scaling()
        found[adapter.name if scaling is None else f"{adapter.name}, rank {scaling[0]}, ×{scaling[1]:.4g} ({alpha_from})"] += 1
    return tuple(f"{text}: {count} modules" for text, count in found.most_common())


def count_blocks(base: Base, applied: Iterable[Target], present: Iterable[Target]) -> Mapping[str, Coverage]:
    """By component and block, in the base's order of execution; a text encoder is one part, as it has no blocks."""
    live, held = frozenset(applied), frozenset(present)
    counts: dict[str, list[int]] = {}
    for layer in base.layers:
        if layer.target in held:
            count = counts.setdefault(_part(layer), [0, 0])
            count[0] += layer.target in live
            count[1] += 1
    return {part: Coverage(*count) for part, count in counts.items()}


def _part(layer: Layer) -> str:
    named = (layer.target.component, layer.third, None if layer.block is None else str(layer.block))
    return " ".join(name for name in named if name is not None)


def _by_component(blocks: Mapping[str, Coverage]) -> Iterator[str]:
    """A line for each component: `unet: in 1 8/8, in 4 8/8, mid 6 8/8, out 9 8/8`."""
    lines: dict[str, list[str]] = {}
    for part, coverage in blocks.items():
        component, _, block = part.partition(" ")
        lines.setdefault(component, []).append(f"{block} {coverage}".strip())
    yield from (f"{component}: {', '.join(parts)}" for component, parts in lines.items())


def count_components(targets: Iterable[Target]) -> Mapping[str, int]:
    return dict(Counter(target.component for target in targets))
